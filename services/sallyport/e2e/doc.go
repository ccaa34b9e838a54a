// Package e2e drives a built Sallyport with the MCP clients that people use: both
// TypeScript SDKs, the Inspector and the Go SDK, in every era they speak. It has
// no code but tests, behind the build tag e2e, because they need npm.
//
// `make e2e` runs them. They install what package-lock.json pins into
// node_modules, build the sallyport program, start it as one process and as
// separate ones, and compare each cell of clients × scenarios with the outcome
// that is written down for it. Nothing is skipped: without npm they fail.
package e2e
