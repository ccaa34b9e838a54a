package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Entry is the value of a key, or the news that it is gone.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
	Deleted  bool
}

func (b *Bus) bucket(ctx context.Context, spec Bucket) (jetstream.KeyValue, error) {
	b.mu.Lock()
	kv := b.buckets[spec.Name]
	b.mu.Unlock()
	if kv != nil {
		return kv, nil
	}
	cfg := jetstream.KeyValueConfig{
		Bucket:      spec.Name,
		Description: spec.Description,
		TTL:         spec.TTL,
		Replicas:    b.cfg.Replicas,
		Storage:     jetstream.FileStorage,
	}
	if spec.TTL > 0 {
		cfg.LimitMarkerTTL = spec.TTL // watchers hear of entries that expire
	}
	kv, err := b.js.CreateOrUpdateKeyValue(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", spec.Name, err)
	}
	b.mu.Lock()
	b.buckets[spec.Name] = kv
	b.mu.Unlock()
	return kv, nil
}

// Get returns the value of a key, or [ErrNotFound].
func (b *Bus) Get(ctx context.Context, spec Bucket, key string) (Entry, error) {
	kv, err := b.bucket(ctx, spec)
	if err != nil {
		return Entry{}, err
	}
	e, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Entry{}, ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("get %s/%s: %w", spec.Name, key, err)
	}
	return entry(e), nil
}

// Current is Get by the server that leads the bucket, so it sees what was written
// before anywhere. (Get may be answered by a server that has not heard of it yet.) A
// leader that is cut off from the others may answer for some seconds more.
func (b *Bus) Current(ctx context.Context, spec Bucket, key string) (Entry, error) {
	if _, err := b.bucket(ctx, spec); err != nil {
		return Entry{}, err
	}
	ask, err := json.Marshal(map[string]string{"last_by_subj": "$KV." + spec.Name + "." + key})
	if err != nil {
		return Entry{}, err
	}
	m, err := b.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET.KV_"+spec.Name, ask)
	if err != nil {
		return Entry{}, fmt.Errorf("get %s/%s: %w", spec.Name, key, err)
	}
	var said struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Sequence uint64 `json:"seq"`
			Header   []byte `json:"hdrs"`
			Data     []byte `json:"data"`
		} `json:"message"`
	}
	switch err := json.Unmarshal(m.Data, &said); {
	case err != nil:
		return Entry{}, fmt.Errorf("get %s/%s: %w", spec.Name, key, err)
	case said.Error != nil && said.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return Entry{}, ErrNotFound
	case said.Error != nil:
		return Entry{}, fmt.Errorf("get %s/%s: %w", spec.Name, key, said.Error)
	case said.Message == nil:
		return Entry{}, fmt.Errorf("get %s/%s: no message in the answer", spec.Name, key)
	}
	if len(said.Message.Header) > 0 {
		header, err := nats.DecodeHeadersMsg(said.Message.Header)
		if err != nil {
			return Entry{}, fmt.Errorf("get %s/%s: %w", spec.Name, key, err)
		}
		// It was removed, or its time is over.
		if header.Get("KV-Operation") != "" || header.Get(jetstream.MarkerReasonHeader) != "" {
			return Entry{}, ErrNotFound
		}
	}
	return Entry{Key: key, Value: said.Message.Data, Revision: said.Message.Sequence}, nil
}

// Put sets a key, whatever it was, and returns its revision.
func (b *Bus) Put(ctx context.Context, spec Bucket, key string, value []byte) (uint64, error) {
	kv, err := b.bucket(ctx, spec)
	if err != nil {
		return 0, err
	}
	rev, err := kv.Put(ctx, key, value)
	if err != nil {
		return 0, fmt.Errorf("put %s/%s: %w", spec.Name, key, err)
	}
	return rev, nil
}

// Create sets a key that must not exist, else it returns [ErrExists].
func (b *Bus) Create(ctx context.Context, spec Bucket, key string, value []byte) (uint64, error) {
	kv, err := b.bucket(ctx, spec)
	if err != nil {
		return 0, err
	}
	rev, err := kv.Create(ctx, key, value)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return 0, ErrExists
	}
	if err != nil {
		return 0, fmt.Errorf("create %s/%s: %w", spec.Name, key, err)
	}
	return rev, nil
}

// Update sets a key that still has the given revision, else it returns
// [ErrConflict].
func (b *Bus) Update(ctx context.Context, spec Bucket, key string, value []byte, revision uint64) (uint64, error) {
	kv, err := b.bucket(ctx, spec)
	if err != nil {
		return 0, err
	}
	rev, err := kv.Update(ctx, key, value, revision)
	// A bucket with replicas has an error code of its own for it.
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return 0, ErrConflict
	}
	if err != nil {
		return 0, fmt.Errorf("update %s/%s: %w", spec.Name, key, err)
	}
	return rev, nil
}

// Delete removes a key. Removing what is not there is no error.
func (b *Bus) Delete(ctx context.Context, spec Bucket, key string) error {
	kv, err := b.bucket(ctx, spec)
	if err != nil {
		return err
	}
	if err := kv.Delete(ctx, key); err != nil {
		return fmt.Errorf("delete %s/%s: %w", spec.Name, key, err)
	}
	return nil
}

// Watch calls on for every key of a bucket and then for every change, one at a
// time, until ctx is done. It calls synced(true) when all that is there has been
// told, and synced(false) when the connection broke and changes may be missed; it
// then opens the bucket again, tells everything again, and tells of keys that
// have vanished meanwhile as deleted. It returns the context's error.
func (b *Bus) Watch(ctx context.Context, spec Bucket, on func(Entry), synced func(bool)) error {
	known := make(map[string]bool)
	for wait := 50 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 2*time.Second) {
		err := b.watchOnce(ctx, spec, known, on, func() { wait = 50 * time.Millisecond; synced(true) })
		synced(false)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			b.log.Warn("watch of a bucket broke", "bucket", spec.Name, "err", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

func (b *Bus) watchOnce(ctx context.Context, spec Bucket, known map[string]bool, on func(Entry), synced func()) error {
	broken := b.nc.StatusChanged(nats.DISCONNECTED, nats.RECONNECTING, nats.CLOSED)
	defer b.nc.RemoveStatusListener(broken)
	open, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	kv, err := b.bucket(open, spec)
	if err != nil {
		return err
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }() // the connection may be gone
	seen := make(map[string]bool)
	loaded := false
	for {
		select {
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return errors.New("the watch was closed")
			case e == nil: // all that is there has been told
				for key := range known {
					if !seen[key] {
						delete(known, key)
						on(Entry{Key: key, Deleted: true})
					}
				}
				loaded = true
				synced()
			default:
				n := entry(e)
				if n.Deleted {
					delete(known, n.Key)
				} else {
					known[n.Key] = true
					if !loaded {
						seen[n.Key] = true
					}
				}
				on(n)
			}
		case <-broken:
			return errors.New("the connection broke")
		case <-ctx.Done():
			return nil
		}
	}
}

func entry(e jetstream.KeyValueEntry) Entry {
	return Entry{Key: e.Key(), Value: e.Value(), Revision: e.Revision(), Deleted: e.Operation() != jetstream.KeyValuePut}
}
