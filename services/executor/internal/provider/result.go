package provider

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/jsonschema"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// sized checks that a result is not too large. As data and as text it may be
// there twice, as results of RPCs are.
func sized(r *providerv1.ToolResult, limit int) error {
	if own := len(r.GetStructured()); own > limit || proto.Size(r)-own > limit {
		return tool.ErrTooLarge
	}
	return nil
}

// result checks what the rules of the contract cannot: that JSON is JSON, and
// that the result is what the tool promises.
func (t *Tool) result(r *providerv1.ToolResult) error {
	for i, c := range r.GetContent() {
		if err := content(c); err != nil {
			return fmt.Errorf("content %d: %w", i, err)
		}
	}
	if err := optionalObject(r.GetMeta()); err != nil {
		return fmt.Errorf("_meta: %w", err)
	}
	structured := r.GetStructured()
	switch {
	case len(structured) == 0 && t.out != nil && !r.GetIsError():
		return errors.New("no structured result, and the tool has an output schema")
	case len(structured) == 0:
		return nil
	case t.out == nil || r.GetIsError():
		return jsonschema.Valid(structured)
	}
	wrong, err := t.out.Check(structured)
	if err != nil {
		return err
	}
	if len(wrong) > 0 {
		return fmt.Errorf("structured result: %s %s", wrong[0].GetPointer(), wrong[0].GetMessage())
	}
	return nil
}

// content checks one block.
func content(c *providerv1.Content) error {
	if err := optionalObject(c.GetMeta()); err != nil {
		return fmt.Errorf("_meta: %w", err)
	}
	if r := c.GetResource(); r != nil {
		return resourceContents(r)
	}
	if l := c.GetResourceLink(); l != nil {
		return absolute(l.GetUri())
	}
	other, ok := c.GetKind().(*providerv1.Content_Other)
	if !ok {
		return nil
	}
	members, err := jsonschema.Members(other.Other)
	if err != nil {
		return err
	}
	if unquoted(members["type"]) == "" {
		return errors.New("a block without a type")
	}
	return nil
}

func resourceContents(r *providerv1.ResourceContents) error {
	if err := absolute(r.GetUri()); err != nil {
		return fmt.Errorf("resource: %w", err)
	}
	if err := optionalObject(r.GetMeta()); err != nil {
		return fmt.Errorf("resource: _meta: %w", err)
	}
	return nil
}

// optionalObject checks JSON that must be an object if it is there.
func optionalObject(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	return jsonschema.Object(raw)
}
