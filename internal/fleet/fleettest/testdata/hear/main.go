// Command hear is the peer of an idle agent: it connects to NATS, hears one subject, and does nothing else, as "nats sub" does.
package main

import (
	"log"
	"os"

	"github.com/nats-io/nats.go"
)

func main() {
	conn, err := nats.Connect(os.Args[1])
	if err == nil {
		_, err = conn.Subscribe("nothing", func(*nats.Msg) {})
	}
	if err != nil {
		log.Fatal(err)
	}
	select {}
}
