package fernet

import "time"

const goldenKey = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="

// golden are tokens that Keystone 22.0.2 made with goldenKey.
var golden = []struct {
	text  string
	token Token
}{
	{"gAAAAABrAb34cmGuD48u96K0ZM5w7lvr3g_zNQ8sicN5vyMBAMtkMksa1It32H7duf5G4uu6pjYxF-5i7lFn6tbmIakavuZKIp3dpWYQQucO6w36EF6AAjWyAIhh-9mPwU5fyU5FDl_sLruyxTXVwhGTHPhP97Az9pI2JIKhJ1p-MQHN0PkJ5Sw",
		goldenToken(1795276280, Token{})},
	{"gAAAAABrAb34DBFAGgwOtT49A2QQzDHoGBk4x0uyyZP-oWAj2naMKioOa6-nnw0mvlXe58DN4WbV2YJFaFd2ATpLiHiysmO8Adz_2DNhy5FQ84SkJ1L09ReXJN2W0a8xqtJVKBs9RiD_rXnCpd41Pbnl-qzEeBnwqKJhaIdJm3z662lSQReaRyk",
		goldenToken(1795276280, Token{DomainID: "default"})},
	{"gAAAAABrAb34PhiOO-UQTeR7SIlAvSc5Xp9Kma9jnnUmjVTUnETYWhAj829LabKCOIGr9wYDTP0KyaoR1y7GsxjMeGAeO_CqHaBx1Vl4cE5hVU3J-O10APBdH6ZVlIkvEZY7bF4hoeOU7t_Tq5qoTnmfNxb8UYDWVK8bdIX7g_X7wG5HSH7zeth7GKIWzXM6gTFkngeOEPzQ",
		goldenToken(1795276280, Token{ProjectID: "fedcba9876543210fedcba9876543210"})},
	{"gAAAAABrAb34te6jJ9s-2fSvwyVijkXzO9acTVzBwzHU7vfRbamx97s8AKW0E0p-u-pLtLEMt2BhWKeL5OlSBPVWC-b_S6e2j26qb3ypvmTfhdU2rdom6-jzEEZR55mB1WjF7DrKAAL5Q3wKgYbhn-CnY3yJ8XDxATS6Cl9X-T-7Lnxg4S8Q4Ng5Csdzc38aprISY6zNQfhkthScAIFDKp27MDJstvb5Xg",
		goldenToken(1795276280, Token{ProjectID: "fedcba9876543210fedcba9876543210", TrustID: "0123456789abcdef0123456789abcdef"})},
	{"gAAAAABrAb34CIhyfGSKkbmeuUfzaAQPgTfT7m7StqLsHOjLux92MnCWV4e9N20J_V34GU6sMflIMfGLfCx8R7FZBpH7I4jYGFKJ9AQOj9nTF4o-j4IYdhw37sbWssWdje713Kbul0FdRdHoJoWnNtioDrLpSWpI-bJefcn-cxmmpTy2syc3oy8",
		goldenToken(1795276280, Token{System: "all"})},
	{"gAAAAABrAb34FBCTbmK5pjwKHVMG-H5mqLxl4fJ6cT6V-k1QF-u4BLUO1B6cY2G-Wz-rhkngQtFXue9JpPYVnteV7Kw8ZnXyl-miG3qOoP85hDGi968TDjgCGrmkJotvg_2iJFEUyMBMoKCBCrkFXXI5cUFBiqcaoLXoUF8GlyHZP-QeTr7KYBRv_njDsrl8192icS_NrXuObFfF3S4PEwMI-meUQMJKuw",
		goldenToken(1795276280, Token{ProjectID: "fedcba9876543210fedcba9876543210", AppCredID: "0123456789abcdef0123456789abcdef"})},
}

func goldenToken(issued int64, t Token) Token {
	t.UserID, t.Methods = user, []string{"token", "password"}
	t.AuditIDs = []string{"AAECAwQFBgcICQoLDA0ODw", "EBESExQVFhcYGRobHB0eHw"}
	t.IssuedAt, t.ExpiresAt = time.Unix(issued, 0).UTC(), time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	return t
}
