package approval

import (
	"encoding/hex"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// Event is the record of a change to what is approved, made by a role.
func Event(role, operation string, o Offer, details map[string]string) *auditv1.Event {
	object := o.Service + "." + o.Name
	return &auditv1.Event{
		Actor:  &auditv1.Actor{Principal: "role:" + role},
		Action: operation,
		Target: object,
		What: &auditv1.Event_Admin{Admin: &auditv1.AdminChange{
			Operation: operation, Object: object, Details: details,
		}},
	}
}

// Short writes the beginning of a digest, enough for people to compare.
func Short(digest []byte) string { return hex.EncodeToString(digest[:min(len(digest), 8)]) }
