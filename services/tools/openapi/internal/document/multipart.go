package document

import (
	"errors"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/wire"
)

// maxPartTypes bounds the media types that one part may be of.
const maxPartTypes = 16

// multipart reads which parts of a body are files and of which types they are, and
// replaces the schemas of files by that of what models send.
func (b *builder) multipart() error {
	var schema *openapi3.Schema
	if b.media != nil && b.media.Schema != nil {
		schema = b.media.Schema.Value
	}
	switch {
	case schema == nil:
		return errors.New("the multipart body has no schema, so that its parts are not known")
	case len(schema.AllOf)+len(schema.AnyOf)+len(schema.OneOf) > 0 || schema.If != nil:
		return errors.New("the multipart body is put together of several schemas")
	case len(schema.Properties) == 0:
		return errors.New("the schema of the multipart body names no parts")
	}
	flat := *schema
	flat.Properties = maps.Clone(schema.Properties)
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		r := schema.Properties[name]
		if r == nil || r.Value == nil {
			return fmt.Errorf("the part %.64q: %w", name, errNowhere)
		}
		if r.Value.ReadOnly {
			continue
		}
		part, err := partOf(name, r.Value, b.media.Encoding[name])
		if err != nil {
			return fmt.Errorf("the part %.64q: %w", name, err)
		}
		if part.File {
			flat.Properties[name] = fileSchema(r.Value).NewRef()
		}
		if part.File || len(part.Types) > 0 {
			b.plan.Body.Parts = append(b.plan.Body.Parts, part)
		}
	}
	media := *b.media
	media.Schema = flat.NewRef()
	b.media = &media
	return nil
}

func partOf(name string, s *openapi3.Schema, how *openapi3.Encoding) (wire.Part, error) {
	part := wire.Part{Name: name, File: binary(s) || s.Items != nil && binary(s.Items.Value)}
	types := ""
	if part.File {
		types = s.ContentMediaType
		if s.Items != nil && s.Items.Value != nil {
			types = s.Items.Value.ContentMediaType
		}
	}
	if how != nil {
		if len(how.Headers) > 0 {
			return part, errors.New("has headers of its own")
		}
		if how.ContentType != "" {
			types = how.ContentType
		}
	}
	if types == "" || part.File && types == "application/octet-stream" {
		return part, nil // which says nothing
	}
	for t := range strings.SplitSeq(types, ",") {
		m, parameters, err := mime.ParseMediaType(strings.TrimSpace(t))
		if err != nil || !strings.Contains(m, "/") || len(part.Types) == maxPartTypes {
			return part, fmt.Errorf("the content type %.64q is none, or there are more than %d", t, maxPartTypes)
		}
		part.Types = append(part.Types, mime.FormatMediaType(m, parameters))
	}
	return part, nil
}

// binary reports whether a part is a file: bytes as they are, as 3.0 or 3.1 says it.
func binary(s *openapi3.Schema) bool {
	return s != nil && s.Type.Permits("string") && s.ContentEncoding == "" && (s.Format == "binary" || s.ContentMediaType != "")
}

// fileSchema is what stands for files of a schema.
func fileSchema(s *openapi3.Schema) *openapi3.Schema {
	if s.Items != nil {
		list := *s
		list.Items = fileSchema(s.Items.Value).NewRef()
		return &list
	}
	// Base64 is a third longer than what it stands for.
	most, encoded, none := uint64(wire.MaxFile), uint64(wire.MaxFile/3*4), false
	longest := uint64(wire.MaxFileName)
	name := openapi3.NewStringSchema()
	name.Description, name.MinLength, name.MaxLength, name.Pattern = "Name of the file, without a path.", 1, &longest, `^[^/\\"]+$`
	text := openapi3.NewStringSchema()
	text.Description, text.MaxLength = "What is in it, if that is text.", &most
	bytes := openapi3.NewStringSchema()
	bytes.Description, bytes.MaxLength, bytes.ContentEncoding = "What is in it, if that is not text, in base64.", &encoded, "base64"
	out := openapi3.NewObjectSchema()
	out.Title, out.Description, out.Nullable = s.Title, s.Description, s.Nullable
	out.Properties = openapi3.Schemas{"filename": name.NewRef(), "text": text.NewRef(), "base64": bytes.NewRef()}
	out.AdditionalProperties.Has = &none
	out.OneOf = openapi3.SchemaRefs{(&openapi3.Schema{Required: []string{"text"}}).NewRef(), (&openapi3.Schema{Required: []string{"base64"}}).NewRef()}
	return out
}
