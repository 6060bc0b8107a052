import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, it } from 'vitest'
import { read, root } from './settings.ts'

it.each(['nginx.conf', 'Caddyfile', 'haproxy.cfg'])('%s is shown as it is', (file) => {
  expect(read('docs/deployment/proxies.md')).toContain(`\n${read(`docs/deployment/${file}`)}\`\`\`\n`)
})

it.each(['docs/deployment.md', 'docs/deployment/proxies.md'])('%s links to files that exist', (page) => {
  const links = [...read(page).matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, link]) => link as string)
  expect(links.length).toBeGreaterThan(2)
  for (const link of links) expect(existsSync(join(root, dirname(page), link)), link).toBe(true)
})
