// Preloaded into the suite, which has no option for a credential: it adds the
// bearer in CONFORMANCE_BEARER to every request, and makes each use a connection
// of its own, so that a front which balances connections spreads the requests.
import http from 'node:http';
import { Agent, setGlobalDispatcher } from 'undici';

const authorization = `Bearer ${process.env.CONFORMANCE_BEARER}`;
delete process.env.CONFORMANCE_BEARER; // nobody else needs it

// fetch and undici.request hand their headers over as an object, as pairs or as
// a flat list of names and values.
function withBearer(headers) {
  if (Array.isArray(headers) && !Array.isArray(headers[0])) return [...headers, 'authorization', authorization];
  if (typeof headers?.[Symbol.iterator] === 'function') return [...[...headers].flat(), 'authorization', authorization];
  return { ...headers, authorization };
}

// Without pipelining undici closes a connection after its first answer.
setGlobalDispatcher(
  new Agent({ pipelining: 0 }).compose(
    (dispatch) => (options, handler) => dispatch({ ...options, headers: withBearer(options.headers) }, handler),
  ),
);

const request = http.request;
http.request = (...args) => {
  const i = args.findIndex((arg) => typeof arg === 'object' && !(arg instanceof URL));
  if (i < 0) throw new Error('inject.mjs: a request without options has no place for the bearer');
  args[i] = { ...args[i], agent: false, headers: { ...args[i].headers, authorization } };
  return request(...args);
};
