package ingest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	kafka "github.com/segmentio/kafka-go"

	"github.com/corastream/corastream"
)

// Probe looks at everything a Source would need and changes nothing: that a broker can be reached and logged in to, that
// the topics are there, that this is the cluster the store was made from, and that the log still holds the offset from
// which each partition is to be read on. It gives all problems, each with its fix.
func Probe(ctx context.Context, cfg Config, h Hooks) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	a, err := newAccess(cfg)
	if err != nil {
		return err
	}
	specs := cfg.Specs()
	names := make([]string, len(specs))
	for i, t := range specs {
		names[i] = t.Name
	}
	cl, err := a.describe(ctx, names...)
	if err != nil {
		return Explain(err)
	}
	s := &Source{cfg: cfg, hooks: h, access: a}
	s.hooks.SetMeta = func(string, string) error { return nil }
	read := map[string]bool{cfg.Topics.Interactions: true, cfg.Topics.Items: true, cfg.Topics.Requests: true}
	var errs []error
	for _, name := range names {
		if err := cl.topics[name].err; err != nil {
			errs = append(errs, Explain(fmt.Errorf("topic %s: %w", name, err)))
			continue
		}
		if !read[name] {
			continue
		}
		for id := range cl.topics[name].leaders {
			if err := s.probe(ctx, corastream.Partition{Topic: name, ID: id}); err != nil {
				errs = append(errs, Explain(err))
			}
		}
	}
	return errors.Join(errs...)
}

// probe attaches to a partition as a feed would, and lets go again.
func (s *Source) probe(ctx context.Context, p corastream.Partition) error {
	next, known := int64(0), false
	if s.hooks.Next != nil {
		var err error
		if next, known, err = s.hooks.Next(p); err != nil {
			return err
		}
	}
	if !known {
		next = fromFirst
	}
	t := s.cfg.tail(s.access, p, next, p.Topic == s.cfg.Topics.Items)
	t.patience = 0
	t.vet = func(c brokersView) error { return s.vet(c, p.Topic) }
	defer t.drop()
	return t.attach(ctx)
}

// Explain adds to an error of a broker what to do about it; one that says so itself, or that nobody can help, stays as it is.
func Explain(err error) error {
	if err == nil || strings.Contains(err.Error(), "(fix: ") {
		return err
	}
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	var code kafka.Error
	fix := ""
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		fix = "nobody listens there: start the broker, or correct kafka.brokers or --bootstrap-server"
	case errors.As(err, &dns):
		fix = "the name is not known: correct kafka.brokers or --bootstrap-server"
	case errors.As(err, &authority):
		fix = "set kafka.tls.ca to the PEM file of the authority that signed the broker's certificate"
	case errors.As(err, &host):
		fix = "set kafka.tls.server_name to the name in the broker's certificate"
	case errors.As(err, &record), strings.Contains(err.Error(), "TLS with broker") && errors.Is(err, io.EOF):
		fix = "this port does not speak TLS: set kafka.tls.enabled: false, or use the broker's TLS port"
	case strings.Contains(err.Error(), "does it want TLS"):
		fix = "set kafka.tls.enabled: true where this is the broker's TLS port"
	case errors.Is(err, errLogin):
		fix = "the broker asks for a login: set kafka.sasl.mechanism, user and password"
	case errors.As(err, &code):
		fix = fixOf(code)
	case errors.Is(err, context.DeadlineExceeded):
		fix = "no answer in time: is a firewall in between, or the broker overloaded?"
	}
	if fix == "" {
		return err
	}
	return fmt.Errorf("%w (fix: %s)", err, fix)
}

func fixOf(code kafka.Error) string {
	switch code {
	case kafka.UnknownTopicOrPartition:
		return "create the topic, or let `corastream up` do it: it makes what is missing"
	case kafka.SASLAuthenticationFailed:
		return "correct kafka.sasl.user and kafka.sasl.password"
	case kafka.UnsupportedSASLMechanism:
		return "choose a kafka.sasl.mechanism that the broker has enabled"
	case kafka.TopicAuthorizationFailed, kafka.GroupAuthorizationFailed, kafka.ClusterAuthorizationFailed:
		return "give this user the right, with kafka-acls or the like"
	case kafka.LeaderNotAvailable, kafka.NotLeaderForPartition, kafka.BrokerNotAvailable:
		return "wait, or look at the brokers: the partition has no leader now"
	}
	return ""
}
