// A Kafka broker for tests: the protocol as franz-go's kfake speaks it, in one process and in memory.
//
//	broker CONFIG.json
//
// The config is the struct below. A user may do on a topic what "write" says, and nothing else; without users
// everybody may. A fault answers that many produce requests to the topic with the error of that code.
package main

import (
	"crypto/tls"
	"encoding/json"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type config struct {
	Port        int
	Topics      map[string]int32 // name to partitions
	Certificate string           // files in PEM; empty: no TLS
	Key         string
	Users       []struct {
		Name, Password string
		Write          []string
	}
	Faults []struct {
		Topic string
		Code  int16
		Count int
	}
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var given config
	if err := json.Unmarshal(text, &given); err != nil {
		log.Fatal(err)
	}
	cluster, err := kfake.NewCluster(options(given)...)
	if err != nil {
		log.Fatal(err)
	}
	for _, fault := range given.Faults {
		cluster.Fault(kfake.Fault{
			Keys: []kmsg.Key{kmsg.Produce}, Topic: fault.Topic, Count: fault.Count,
			Err: kerr.TypedErrorForCode(fault.Code),
		})
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, os.Interrupt, syscall.SIGTERM)
	<-ended
	cluster.Close()
}

func options(given config) []kfake.Opt {
	found := []kfake.Opt{
		kfake.Ports(given.Port),
		kfake.WithLogger(kfake.BasicLogger(os.Stderr, kfake.LogLevelWarn)),
	}
	for topic, partitions := range given.Topics {
		found = append(found, kfake.SeedTopics(partitions, topic))
	}
	if given.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(given.Certificate, given.Key)
		if err != nil {
			log.Fatal(err)
		}
		found = append(found, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}))
	}
	if len(given.Users) > 0 {
		found = append(found, kfake.EnableSASL(), kfake.EnableACLs())
	}
	for _, user := range given.Users {
		var allowed []kfake.ACL
		for _, topic := range user.Write {
			for _, may := range []kmsg.ACLOperation{kmsg.ACLOperationWrite, kmsg.ACLOperationRead, kmsg.ACLOperationDescribe} {
				allowed = append(allowed, kfake.ACL{
					Resource: kmsg.ACLResourceTypeTopic, Name: topic,
					Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: may, Allow: true,
				})
			}
		}
		found = append(found, kfake.User("SCRAM-SHA-256", user.Name, user.Password, allowed...))
	}
	return found
}
