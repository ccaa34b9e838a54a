package edge

import (
	"time"

	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// appendProvenance appends, to members of _meta, where content is from and for how
// good it is to be taken; nothing where there is no content of others.
func appendProvenance(b []byte, from *toolv1.Provenance) []byte {
	if from == nil {
		return b
	}
	l := from.GetLabel()
	if len(b) > 0 {
		b = append(b, ',')
	}
	b = appendText(append(b, `"dev.sallyport/provenance":{"source":`...), l.GetSource())
	b = appendText(append(b, `,"service":`...), from.GetService())
	b = appendText(append(b, `,"trust":`...), trustWord(l.GetTrust()))
	b = appendText(append(b, `,"sensitivity":`...), sensitivityWord(l.GetSensitivity()))
	b = appendText(append(b, `,"tenant":`...), l.GetTenant())
	b = appendText(append(b, `,"decision_id":`...), from.GetDecisionId())
	b = appendText(append(b, `,"time":`...), l.GetTime().AsTime().UTC().Format(time.RFC3339))
	if from.GetEnvelope() != "" {
		b = appendText(append(b, `,"envelope":`...), from.GetEnvelope())
	}
	return append(b, '}')
}

// trustWord is what clients and policies call it. What does not say is untrusted.
func trustWord(t toolv1.Trust) string {
	switch t {
	case toolv1.Trust_TRUST_TRUSTED:
		return "trusted"
	case toolv1.Trust_TRUST_INTERNAL:
		return "internal"
	}
	return "untrusted"
}

func sensitivityWord(s toolv1.Sensitivity) string {
	switch s {
	case toolv1.Sensitivity_SENSITIVITY_PUBLIC:
		return "public"
	case toolv1.Sensitivity_SENSITIVITY_CONFIDENTIAL:
		return "confidential"
	}
	return "internal"
}
