package ingest

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
)

const (
	dialTimeout = 5 * time.Second
	callTimeout = 15 * time.Second
)

// access is how this process reaches the cluster, in the three shapes that kafka-go wants it.
type access struct {
	brokers  []string
	clientID string
	tls      *tls.Config
	sasl     sasl.Mechanism
	limit    int // of an answer, bytes
}

func newAccess(c Config) (*access, error) {
	t, err := c.TLS.config()
	if err != nil {
		return nil, err
	}
	m, err := c.SASL.mechanism()
	if err != nil {
		return nil, err
	}
	return &access{brokers: c.Brokers, clientID: c.ClientID, tls: t, sasl: m, limit: c.MaxFetchBytes}, nil
}

// dialer serves kafka-go's ConsumerGroup.
func (a *access) dialer() *kafka.Dialer {
	return &kafka.Dialer{ClientID: a.clientID, Timeout: dialTimeout, DualStack: true, TLS: a.tls, SASLMechanism: a.sasl}
}

// transport serves kafka-go's Writer and Client.
func (a *access) transport() *kafka.Transport {
	return &kafka.Transport{
		ClientID: a.clientID, DialTimeout: dialTimeout, TLS: a.tls, SASL: a.sasl,
		MetadataTTL: time.Second, Dial: (&net.Dialer{Timeout: dialTimeout}).DialContext,
	}
}

// conn is one connection to one broker, used by one goroutine. It speaks what kafka-go's own readers can not say: a
// broker's append time, the batches' checksums, control records, aborted transactions, topic ids (see doc.go).
type conn struct {
	net.Conn
	r        *bufio.Reader
	clientID string
	limit    int
	calls    int32
	versions map[protocol.ApiKey]int16 // the newest the broker knows
}

func (a *access) dial(ctx context.Context, addr string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial broker %s: %w", addr, err)
	}
	if a.tls != nil {
		t := a.tls.Clone()
		if t.ServerName == "" {
			t.ServerName, _, _ = net.SplitHostPort(addr)
		}
		tc := tls.Client(nc, t)
		if err := tc.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, fmt.Errorf("TLS with broker %s: %w", addr, err)
		}
		nc = tc
	}
	c := &conn{Conn: nc, r: bufio.NewReaderSize(nc, 64<<10), clientID: a.clientID, limit: a.limit}
	if err := c.greet(ctx, a.sasl); err != nil {
		c.Close()
		return nil, fmt.Errorf("greet broker %s: %w", addr, err)
	}
	return c, nil
}

// greet asks for the API versions, then logs in.
func (c *conn) greet(ctx context.Context, m sasl.Mechanism) error {
	msg, err := c.call(ctx, 0, &apiversions.Request{})
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("the broker hung up: does it want TLS or SASL? %w", err)
		}
		return err
	}
	res := msg.(*apiversions.Response)
	if res.ErrorCode != 0 {
		return kafka.Error(res.ErrorCode)
	}
	c.versions = map[protocol.ApiKey]int16{}
	for _, k := range res.ApiKeys {
		c.versions[protocol.ApiKey(k.ApiKey)] = k.MaxVersion
	}
	if m == nil {
		return nil
	}
	return c.login(ctx, m)
}

func (c *conn) login(ctx context.Context, m sasl.Mechanism) error {
	msg, err := c.call(ctx, 1, &saslhandshake.Request{Mechanism: m.Name()})
	if err != nil {
		return fmt.Errorf("SASL handshake: %w", err)
	}
	if code := msg.(*saslhandshake.Response).ErrorCode; code != 0 {
		return fmt.Errorf("SASL handshake for %s: %w", m.Name(), kafka.Error(code))
	}
	session, say, err := m.Start(ctx)
	if err != nil {
		return fmt.Errorf("start SASL: %w", err)
	}
	for done := false; !done; {
		msg, err := c.call(ctx, 1, &saslauthenticate.Request{AuthBytes: say})
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			// Some brokers refuse so. It may also be one that shuts down, so this alone does not end a running stream.
			return fmt.Errorf("SASL: the broker hung up: are user and password right? %w", err)
		}
		if err != nil {
			return fmt.Errorf("SASL: %w", err)
		}
		res := msg.(*saslauthenticate.Response)
		if res.ErrorCode != 0 {
			return fmt.Errorf("SASL login refused (%s): %w", res.ErrorMessage, kafka.Error(res.ErrorCode))
		}
		if done, say, err = session.Next(ctx, res.AuthBytes); err != nil {
			return fmt.Errorf("SASL: %w", err)
		}
	}
	return nil
}

// guard makes ctx end whatever read or write is under way, until the returned function is called.
func (c *conn) guard(ctx context.Context, extra time.Duration) (release func()) {
	deadline := time.Now().Add(callTimeout + extra)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	c.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// call sends a request that kafka-go knows and reads its answer.
func (c *conn) call(ctx context.Context, version int16, req protocol.Message) (protocol.Message, error) {
	defer c.guard(ctx, 0)()
	c.calls++
	res, err := protocol.RoundTrip(rw{c.r, c.Conn}, version, c.calls, c.clientID, req)
	if err != nil {
		return nil, cause(ctx, err)
	}
	return res, nil
}

// raw sends a request that kafka-go knows, but gives the answer's bytes.
func (c *conn) raw(ctx context.Context, version int16, req protocol.Message, wait time.Duration) ([]byte, error) {
	defer c.guard(ctx, wait)()
	c.calls++
	if err := protocol.WriteRequest(c.Conn, version, c.calls, c.clientID, req); err != nil {
		return nil, cause(ctx, err)
	}
	return c.answer(ctx)
}

// send sends a request whose body is given, in a flexible version (header 2), and gives the answer's bytes.
func (c *conn) send(ctx context.Context, key protocol.ApiKey, version int16, body []byte) ([]byte, error) {
	defer c.guard(ctx, 0)()
	c.calls++
	b := make([]byte, 4, 4+10+len(c.clientID)+1+len(body))
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(c.calls))
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.clientID)))
	b = append(b, c.clientID...)
	b = append(b, 0) // no tagged fields
	b = append(b, body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	if _, err := c.Write(b); err != nil {
		return nil, cause(ctx, err)
	}
	return c.answer(ctx)
}

// answer reads one answer into memory, having checked its size.
func (c *conn) answer(ctx context.Context) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return nil, cause(ctx, err)
	}
	size := int64(binary.BigEndian.Uint32(head[:])) - 4
	if size < 0 {
		return nil, errWire
	}
	if size > int64(c.limit) {
		return nil, fmt.Errorf("the broker's answer of %d bytes: %w", size, errAnswerTooLarge)
	}
	if id := int32(binary.BigEndian.Uint32(head[4:])); id != c.calls {
		return nil, fmt.Errorf("answer %d came for request %d: %w", id, c.calls, errWire)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return nil, cause(ctx, err)
	}
	return body, nil
}

// cause prefers the context's reason: its end is what closed the connection.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

type rw struct {
	io.Reader
	io.Writer
}
