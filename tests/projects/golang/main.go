package main

import (
	"fmt"
	"net/http"
)

var version = "none"

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "go says %s\n", version) })
	panic(http.ListenAndServe(":8080", nil))
}
