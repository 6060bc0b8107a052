import { isLoopback } from './contradictions.ts'
import type { Settings } from './settings.ts'

/** Always served when `Host` is checked at all: health checks come from inside. */
const loopbackHosts = ['localhost', '127.0.0.1', '[::1]']

/** Names that are served; empty for any. */
export function servedHosts({ host, allowed_hosts }: Pick<Settings['server'], 'host' | 'allowed_hosts'>): string[] {
  return isLoopback(host) || allowed_hosts.length > 0 ? [...loopbackHosts, ...allowed_hosts] : []
}
