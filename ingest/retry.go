package ingest

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/corastream/corastream"
)

// errAnswerTooLarge: one record batch is larger than max_fetch_bytes. Asking again gives the same.
var errAnswerTooLarge = errors.New("larger than max_fetch_bytes (fix: raise max_fetch_bytes)")

// retryable says whether doing the same again may succeed. It decides for reading and writing alike.
func retryable(err error) bool {
	var usage *corastream.UsageError
	var ke kafka.Error
	var many kafka.WriteErrors
	var ne net.Error
	switch {
	case err == nil,
		errors.Is(err, context.Canceled),  // the caller wants no more
		errors.Is(err, corastream.ErrGap), // the records are gone
		errors.Is(err, errAnswerTooLarge), // the same batch comes again
		errors.As(err, &usage):            // the config stays as it is
		return false
	case errors.Is(err, corastream.ErrCorrupt):
		// A bad checksum may have come from the wire; a batch that is bad on disk is given up by the reader's own count.
		return true
	case errors.As(err, &many):
		for _, e := range many {
			if e != nil && !retryable(e) {
				return false
			}
		}
		return true
	case errors.As(err, &ke):
		return retryableCode(ke)
	case errors.Is(err, protocol.ErrNoLeader), errors.Is(err, protocol.ErrNoTopic), errors.Is(err, protocol.ErrNoPartition):
		return true // the client's own words for LeaderNotAvailable and UnknownTopicOrPartition, from metadata of a restart's first moments
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrNoProgress):
		return true // the broker went away
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return true // it is restarting
	case errors.Is(err, context.DeadlineExceeded):
		return true // our own time limit for one call; the caller's shows as its context's error
	case errors.Is(err, errWire):
		return true // a new connection starts at a message boundary again
	case errors.As(err, &ne):
		return true // name lookups and time-outs; a TLS certificate error is none of these
	}
	return false
}

// retryableCode: kafka-go's own Temporary misses some codes that a restart or a moved leader brings.
func retryableCode(e kafka.Error) bool {
	switch e {
	case kafka.TopicAuthorizationFailed, kafka.GroupAuthorizationFailed, kafka.ClusterAuthorizationFailed,
		kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism, kafka.IllegalSASLState:
		return false // somebody must change a right or a password
	case kafka.MessageSizeTooLarge, kafka.RecordListTooLarge, kafka.InvalidTopic, kafka.UnsupportedVersion,
		kafka.InvalidRequiredAcks, kafka.InvalidConfiguration, kafka.PolicyViolation:
		return false // the same request fails again
	case kafka.OffsetOutOfRange:
		return false // the gap check decides
	case kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable, kafka.NotLeaderForPartition, kafka.FencedLeaderEpoch,
		kafka.UnknownLeaderEpoch, kafka.BrokerNotAvailable, kafka.ReplicaNotAvailable, kafka.KafkaStorageError,
		kafka.RequestTimedOut, kafka.NetworkException, kafka.OffsetNotAvailable:
		return true // a broker restarts, a leader moves, a topic is being made
	case kafka.GroupLoadInProgress, kafka.GroupCoordinatorNotAvailable, kafka.NotCoordinatorForGroup, kafka.IllegalGeneration,
		kafka.UnknownMemberId, kafka.RebalanceInProgress, kafka.MemberIDRequired:
		return true // the group is between two generations
	case kafka.Unknown:
		return true // what a broker says while it shuts down
	}
	return e.Temporary()
}

const (
	backoffMin = 50 * time.Millisecond
	backoffMax = time.Second
)

// pause waits before attempt n (from 1): doubling from backoffMin to backoffMax, with up to a half of jitter so that
// partitions do not come back in step. It ends early with the context.
func pause(ctx context.Context, n int) error {
	d := min(backoffMin<<min(n-1, 10), backoffMax)
	d += rand.N(d / 2)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
