package s3api

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre/objectstore"
)

// A bucket's policy is kept as it was given, and says what the container's ACL can:
// that everybody may read objects, and list them as well. Whatever else a policy
// wants is refused, so that none is in force only in part.
const bucketPolicy = "X-Container-Sysmeta-S3-Policy"

// cannedName is the canned ACL that a bucket was given beside its policy.
const cannedName = "X-Container-Sysmeta-S3-Acl"

// wider is the read ACL of a bucket whose policy and canned ACL each admit somebody.
func wider(policy, canned string) string {
	if policy == "" || strings.Contains(canned, ".rlistings") {
		return canned
	}
	return policy
}

// oneOrMore is a JSON string or a list of them.
type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*o = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(o))
}

type policyDoc struct {
	Version   string
	ID        string `json:"Id"`
	Statement []statement
}

type statement struct {
	Sid, Effect           string
	Principal             json.RawMessage
	NotPrincipal          json.RawMessage
	Action, NotAction     oneOrMore
	Resource, NotResource oneOrMore
	Condition             json.RawMessage
}

// check refuses what is no statement, and what an ACL can't say.
func (st *statement) check(bucket string) error {
	var everybody struct{ AWS oneOrMore }
	var name string
	known := json.Unmarshal(st.Principal, &name) == nil && name == "*" || json.Unmarshal(st.Principal, &everybody) == nil && slices.Equal(everybody.AWS, []string{"*"})
	switch {
	case st.Effect != "Allow" && st.Effect != "Deny":
		return newFault("MalformedPolicy", "Invalid effect: "+st.Effect)
	case len(st.Action)+len(st.NotAction) == 0:
		return newFault("MalformedPolicy", "Missing required field Action")
	case len(st.Resource)+len(st.NotResource) == 0:
		return newFault("MalformedPolicy", "Missing required field Resource")
	case len(st.Principal)+len(st.NotPrincipal) == 0:
		return newFault("MalformedPolicy", "Missing required field Principal")
	case !known, st.Effect != "Allow", st.Condition != nil, st.NotAction != nil, st.NotResource != nil, st.NotPrincipal != nil:
		return fault("NotImplemented")
	}
	for _, r := range st.Resource {
		if name, _, _ := strings.Cut(strings.TrimPrefix(r, arn), "/"); name != bucket {
			return newFault("MalformedPolicy", "Policy has invalid resource")
		}
		if r != arn+bucket && r != arn+bucket+"/*" {
			return fault("NotImplemented")
		}
	}
	return nil
}

// arn begins the names of buckets in policies.
const arn = "arn:aws:s3:::"

// policyACL is the container's read ACL that a policy amounts to.
func policyACL(raw []byte, bucket string) (string, error) {
	var doc policyDoc
	if err := json.Unmarshal(raw, &doc); err != nil {
		return "", newFault("MalformedPolicy", "Policies must be valid JSON and the first byte must be '{'")
	}
	if len(doc.Statement) == 0 {
		return "", newFault("MalformedPolicy", "Missing required field Statement")
	}
	reads, lists := false, false
	for i := range doc.Statement {
		st := &doc.Statement[i]
		if err := st.check(bucket); err != nil {
			return "", err
		}
		onBucket, onObjects := slices.Contains(st.Resource, arn+bucket), slices.Contains(st.Resource, arn+bucket+"/*")
		for _, a := range st.Action {
			switch a {
			case "s3:GetObject", "s3:GetObjectVersion":
				reads = reads || onObjects
			case "s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketLocation":
				lists = lists || onBucket && a == "s3:ListBucket"
			default:
				return "", fault("NotImplemented")
			}
		}
	}
	switch {
	case reads && lists:
		return ".r:*,.rlistings", nil
	case reads:
		return ".r:*", nil
	case lists:
		return "", fault("NotImplemented")
	}
	return "", nil
}

func (c *call) getPolicy() error {
	cont, err := c.svc.Container(c.ctx, c.ref())
	if err != nil {
		return c.bucketError(err)
	}
	p := cont.Meta[bucketPolicy]
	if p == "" {
		return fault("NoSuchBucketPolicy")
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(c.w, p)
	return nil
}

func (c *call) putPolicy() error {
	raw, err := io.ReadAll(io.LimitReader(c.body, maxXML))
	if err != nil {
		return err
	}
	acl, err := policyACL(raw, c.bucket)
	if err != nil {
		return err
	}
	var doc any
	if err := json.Unmarshal(raw, &doc); err != nil {
		return err
	}
	line, err := json.Marshal(doc) // a header has no line breaks
	if err != nil {
		return err
	}
	cont, err := c.svc.Container(c.ctx, c.ref())
	if err != nil {
		return c.bucketError(err)
	}
	canned, err := cannedACL(cont.Meta[cannedName])
	if err != nil {
		return err
	}
	return c.setBucket(http.StatusNoContent, bucketPolicy, string(line), map[string]string{"X-Container-Read": wider(acl, canned["X-Container-Read"])})
}

func (c *call) deletePolicy() error {
	cont, err := c.svc.Container(c.ctx, c.ref())
	if err != nil {
		return c.bucketError(err)
	}
	var headers map[string]string
	if cont.Meta[bucketPolicy] != "" {
		canned, err := cannedACL(cont.Meta[cannedName])
		if err != nil {
			return err
		}
		headers = map[string]string{"X-Container-Read": canned["X-Container-Read"]}
	}
	return c.setBucket(http.StatusNoContent, bucketPolicy, "", headers)
}

// policyStatus says whether everybody may read.
func (c *call) policyStatus() error {
	cont, err := c.svc.Container(c.ctx, objectstore.Ref{Account: c.account, Container: c.bucket})
	if err != nil {
		return c.bucketError(err)
	}
	if cont.Meta[bucketPolicy] == "" {
		return fault("NoSuchBucketPolicy")
	}
	return c.xml(http.StatusOK, struct {
		XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ PolicyStatus"`
		IsPublic bool
	}{IsPublic: cont.Meta["X-Container-Read"] != ""})
}
