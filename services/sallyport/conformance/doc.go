// Package conformance runs the official MCP conformance suite against a built
// Sallyport, through everything a call goes through: bearer, policy, quota and
// executor. It has no code but tests, behind the build tag conformance, because
// they need npm.
//
// `make conformance` runs them. They install what package-lock.json pins into
// node_modules, build the programs sallyport and conformanced, start the system as
// one process and as separate ones with two edges behind a balancer of
// connections, let the provider with the suite's fixtures join as any tool service
// would, and run what each revision requires. A table tells what passed. Nothing
// that is required may fail, nor be missing.
package conformance
