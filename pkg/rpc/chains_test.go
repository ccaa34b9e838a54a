package rpc

import (
	"slices"
	"testing"
)

func TestEveryInterceptorHasItsTwinForStreams(t *testing.T) {
	var unary, stream []string
	for _, n := range (Server{}).unary() {
		unary = append(unary, n.name)
	}
	for _, n := range (Server{}).stream() {
		stream = append(stream, n.name)
	}
	if !slices.Equal(unary, stream) {
		t.Errorf("unary %v, stream %v", unary, stream)
	}
}
