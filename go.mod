module github.com/nacre-cloud/nacre

go 1.26.0
