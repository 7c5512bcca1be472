package devbroker

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
)

// Topic is made at start when it is not there yet.
type Topic struct {
	Name string
	// Partitions. Default Options.Partitions.
	Partitions int
	// Configs as in Kafka: "cleanup.policy", "retention.ms", ... Without retention.ms a topic is kept for ever.
	Configs map[string]string
}

// User may log in; with any user, SASL is demanded of everyone.
type User struct {
	Mechanism string // "PLAIN", "SCRAM-SHA-256" or "SCRAM-SHA-512"
	Name      string
	Password  string
}

// Options of a broker. The zero value is one in memory on a free port.
type Options struct {
	// Dir holds the log, the lock and the address. Default: none, everything is in memory and lost at Close.
	Dir string
	// Port on 127.0.0.1. Default 0: a free one. Range 0..65535.
	Port int
	// SyncWrites makes every produce request wait for fsync. Default false: safe against a kill, not against power loss.
	SyncWrites bool
	// Partitions of a topic that names none. Default 4.
	Partitions int
	Topics     []Topic
	// TLS makes the listener speak TLS. Default nil: plain text, on the loopback address only.
	TLS *tls.Config
	// Users who may log in. Default none: no SASL.
	Users []User
	// MaxMessageBytes is the largest record batch taken. Default 20 MiB, so that a reader's own limit can be met.
	MaxMessageBytes int
}

// Broker is a running broker.
type Broker struct {
	cluster *kfake.Cluster
	dir     *folder
	addr    string
	once    sync.Once
	err     error
}

// Start opens the data folder and serves it. ErrHeld says that another process has it.
func Start(o Options) (*Broker, error) {
	if o.Port < 0 || o.Port > 65535 {
		return nil, fmt.Errorf("port %d is out of range (fix: choose from 0 to 65535)", o.Port)
	}
	if o.Partitions <= 0 {
		o.Partitions = 4
	}
	if o.MaxMessageBytes <= 0 {
		o.MaxMessageBytes = 20 << 20
	}
	dir, err := openFolder(o.Dir)
	if err != nil {
		return nil, err
	}
	if dir != nil {
		if err := checkLog(filepath.Join(dir.path, "log")); err != nil {
			return nil, errors.Join(err, dir.close())
		}
	}
	cluster, err := kfake.NewCluster(o.kfake(dir)...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the embedded broker%s: %w", dir.named(), err), dir.close())
	}
	b := &Broker{cluster: cluster, dir: dir, addr: cluster.ListenAddrs()[0]}
	if err := b.makeTopics(o); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	// The address is written last: whoever finds it finds the topics too.
	if err := dir.publish(b.addr); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (o Options) kfake(dir *folder) []kfake.Opt {
	opts := []kfake.Opt{
		kfake.Ports(o.Port), kfake.DefaultNumPartitions(o.Partitions), kfake.ClusterID(newID()),
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": fmt.Sprint(o.MaxMessageBytes)}),
	}
	if dir != nil {
		opts = append(opts, kfake.DataDir(filepath.Join(dir.path, "log")))
	}
	if o.SyncWrites {
		opts = append(opts, kfake.SyncWrites())
	}
	if o.TLS != nil {
		opts = append(opts, kfake.TLS(o.TLS))
	}
	if len(o.Users) > 0 {
		opts = append(opts, kfake.EnableSASL())
	}
	for _, u := range o.Users {
		opts = append(opts, kfake.Superuser(u.Mechanism, u.Name, u.Password))
	}
	return opts
}

// newID is a cluster id; a data folder keeps the one it was born with.
func newID() string {
	var b [11]byte
	rand.Read(b[:])
	return "dev-" + hex.EncodeToString(b[:])
}

func (b *Broker) makeTopics(o Options) error {
	for _, t := range o.Topics {
		n := t.Partitions
		if n <= 0 {
			n = o.Partitions
		}
		err := b.cluster.CreateTopic(t.Name, int32(n), t.Configs)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("make topic %q: %w", t.Name, err)
		}
	}
	return nil
}

// Addr is the bootstrap address, host:port.
func (b *Broker) Addr() string { return b.addr }

// Kafka gives access to what a test wants to do to a broker: delete records, apply retention, inject faults.
func (b *Broker) Kafka() *kfake.Cluster { return b.cluster }

// Close stops serving, writes everything down and frees the folder. It may be called twice.
func (b *Broker) Close() error {
	b.once.Do(func() {
		b.err = b.dir.withdraw()
		b.cluster.Close()
		b.err = errors.Join(b.err, b.dir.close())
	})
	return b.err
}

// ErrHeld: another process has the data folder open.
var ErrHeld = errors.New("the data folder is in use by another process")

// ErrNone: no broker runs on the data folder.
var ErrNone = errors.New("no embedded broker is running there")

// Find returns the address of the broker that holds dir, ErrNone when none does.
func Find(dir string) (string, error) {
	lock, err := tryLock(filepath.Join(dir, lockName))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s: %w", dir, ErrNone)
	}
	if err == nil {
		// We could take the lock, so nobody serves the folder: an address file in it is a dead process's.
		return "", errors.Join(fmt.Errorf("%s: %w", dir, ErrNone), lock.Close())
	}
	if !errors.Is(err, ErrHeld) {
		return "", err
	}
	addr, err := os.ReadFile(filepath.Join(dir, addressName))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s: it is starting or stopping: %w", dir, ErrNone)
	}
	if err != nil {
		return "", fmt.Errorf("find the embedded broker: %w", err)
	}
	return string(addr), nil
}
