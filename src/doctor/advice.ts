/** What a hop between a client and Sluice can do to a stream. */
export type Ailment =
  | 'buffering'
  | 'caching'
  | 'compression'
  | 'cors'
  | 'http/1.0'
  | 'http2'
  | 'idle'
  | 'leaving'
  | 'request headers'
  | 'response headers'

export type Product =
  | 'nginx'
  | 'Caddy'
  | 'HAProxy'
  | 'Apache'
  | 'Traefik'
  | 'Envoy'
  | 'Cloudflare'
  | 'AWS ALB'
  | 'Google Cloud'
  | 'Azure'
  | 'Sluice'

/** What to change, by product: in its own words, so that it can be searched for. */
const advice: Record<Ailment, Partial<Record<Product, string>>> = {
  buffering: {
    nginx: 'proxy_buffering off; in the location, and no proxy_ignore_headers X-Accel-Buffering',
    Caddy: 'flush_interval -1 in reverse_proxy',
    HAProxy: 'option http-no-delay; no filter that collects responses',
    Apache: 'flushpackets=on on the ProxyPass line',
    Traefik: 'no buffering middleware on this router',
    Envoy: 'no buffer filter on this route',
    Cloudflare: 'response buffering off; a Worker has to return the body as a stream',
    'AWS ALB': 'a load balancer does not buffer: API Gateway and Lambda in front of it do, leave them out',
    Azure: 'Application Gateway: response buffering off',
  },
  caching: {
    nginx: 'proxy_cache off; in the location, or no proxy_ignore_headers Cache-Control',
    Cloudflare: 'a Cache Rule that bypasses the cache for this path',
    'Google Cloud': 'Cloud CDN: cache mode USE_ORIGIN_HEADERS',
    Azure: 'Front Door: caching off on this route',
  },
  compression: {
    nginx: 'gzip off; in the location, or no text/event-stream (and no *) in gzip_types',
    Caddy: 'encode with a matcher that leaves text/event-stream out',
    HAProxy: 'no text/event-stream in compression type',
    Apache: 'SetEnv no-gzip 1 for the location',
    Traefik: 'text/event-stream in excludedContentTypes of the compress middleware',
    Envoy: 'no text/event-stream in content_type of the compressor',
    Cloudflare: 'a Compression Rule that turns it off for this path; Cache-Control: no-transform has to arrive',
    Azure: 'Front Door: compression off on this route',
  },
  cors: {
    Sluice: 'CORS_ORIGINS with the exact origin: scheme, host and port',
    nginx: 'no add_header Access-Control-Allow-Origin: Sluice sends it; let OPTIONS pass',
  },
  'http/1.0': {
    nginx: 'proxy_http_version 1.1; and proxy_set_header Connection "";',
    Apache: 'no force-proxy-request-1.0',
  },
  http2: {
    nginx: 'http2 on; (before 1.25: listen 443 ssl http2;)',
    Caddy: 'protocols h1 h2 in servers, if it was changed',
    HAProxy: 'alpn h2,http/1.1 on the bind line',
    Apache: 'Protocols h2 http/1.1',
    'AWS ALB': 'an HTTPS listener; its attribute routing.http2.enabled has to be true',
    Sluice: 'server.tls, if nothing in front ends TLS',
  },
  idle: {
    nginx: 'proxy_read_timeout 60s; or more',
    Caddy: 'read_timeout in transport http, if it is set',
    HAProxy: 'timeout server and timeout client, 60s or more',
    Apache: 'timeout= on the ProxyPass line, or ProxyTimeout',
    Traefik: 'idleTimeout and readTimeout of the entry point and of the servers transport',
    Envoy: 'timeout: 0s and idle_timeout on the route',
    Cloudflare: 'its limit is 100 s of silence: a heartbeat must come before',
    'AWS ALB': 'idle_timeout.timeout_seconds (60 unless changed)',
    'Google Cloud': 'timeoutSec of the backend service: 30 s unless changed, and for the whole response',
    Azure: 'idle time-out of the load balancer: 4 minutes; request time-out of Application Gateway',
    Sluice: 'a shorter streams.heartbeat_ms',
  },
  leaving: {
    nginx: 'no proxy_ignore_client_abort on;',
    HAProxy: 'option abortonclose',
    Cloudflare: 'a Worker has to pass request.signal on to its fetch',
  },
  'request headers': {
    nginx: 'no proxy_set_header with an empty value for it, no proxy_pass_request_headers off',
    Caddy: 'no header_up that removes it',
    HAProxy: 'no http-request del-header for it',
    Apache: 'no RequestHeader unset for it',
    Envoy: 'not in request_headers_to_remove',
    Cloudflare: 'no Transform Rule that removes it',
  },
  'response headers': {
    nginx: 'no proxy_hide_header for it',
    Caddy: 'no header_down that removes or replaces it',
    HAProxy: 'no http-response del-header or set-header for it',
    Envoy: 'not in response_headers_to_remove',
    Cloudflare: 'no Transform Rule that removes it',
  },
}

export function adviceFor(ailment: Ailment): Partial<Record<Product, string>> {
  return advice[ailment]
}
