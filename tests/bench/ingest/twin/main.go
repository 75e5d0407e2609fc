// The twin: verifies a webhook's signature and inserts its body, one durable transaction for each request, and
// does nothing else. What a small service in Go costs beside the gateway.
//
//	SECRET=… DSN=postgres://… twin ADDRESS
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	largest = 1 << 20
	insert  = "INSERT INTO bench.raw (id, body) VALUES (gen_random_uuid(), $1)"
)

func main() {
	secret := []byte(os.Getenv("SECRET"))
	pool, err := pgxpool.New(context.Background(), os.Getenv("DSN"))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /hooks/{id}", func(answer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(answer, request.Body, largest))
		if err != nil {
			http.Error(answer, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		mac := hmac.New(sha256.New, secret)
		mac.Write(body)
		given, err := hex.DecodeString(strings.TrimPrefix(request.Header.Get("X-Hub-Signature-256"), "sha256="))
		if err != nil || !hmac.Equal(given, mac.Sum(nil)) {
			http.Error(answer, "not signed", http.StatusUnauthorized)
			return
		}
		if _, err := pool.Exec(request.Context(), insert, body); err != nil {
			http.Error(answer, "not now", http.StatusServiceUnavailable)
			return
		}
		answer.Header().Set("Content-Type", "application/json")
		answer.WriteHeader(http.StatusAccepted)
		io.WriteString(answer, `{"accepted":true}`)
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
