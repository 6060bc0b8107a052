import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readPageFiles } from '../../src/http/page-files.ts'
import { holder, lettingIn } from '../support/access.ts'
import { fetchAll } from '../support/client.ts'
import { startRig } from '../support/sluice.ts'

describe('the pages', () => {
  it('need no key, may run nothing but what is served here, and are asked for again each time', async () => {
    const rig = await startRig({ env: lettingIn(holder('alice')) })
    for (const path of ['/', '/ops', '/doctor']) {
      const response = await fetch(rig.url + path)
      expect(response.status).toBe(200)
      expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8')
      expect(response.headers.get('cache-control')).toBe('no-cache')
      const policy = response.headers.get('content-security-policy') ?? ''
      expect(policy).toContain("default-src 'none'")
      expect(policy).toContain("script-src 'self'")
      expect(policy).toContain("frame-ancestors 'none'")
      expect(policy).toContain("require-trusted-types-for 'script'")
      expect(policy).not.toMatch(/unsafe|\*|https?:/)
      const html = await response.text()
      expect(html).not.toMatch(/<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|https?:\/\//)
      const again = await fetch(rig.url + path, { headers: { 'if-none-match': response.headers.get('etag') ?? '' } })
      expect(again.status).toBe(304)
      const head = await fetch(rig.url + path, { method: 'HEAD' })
      expect([head.status, head.headers.get('etag')]).toEqual([200, response.headers.get('etag')])
    }
  })

  it('are where they are served from, all that they and their modules ask for', async () => {
    const rig = await startRig()
    const wanted = ['/', '/ops', '/doctor']
    const seen = new Set<string>()
    for (let path = wanted.pop(); path !== undefined; path = wanted.pop()) {
      if (seen.has(path)) continue
      seen.add(path)
      const { status, body } = await fetchAll(rig.url + path)
      expect(status, path).toBe(200)
      const found = path.endsWith('.js')
        ? [...body.matchAll(/(?:\bfrom|\bimport) ?'(\.[^']+)'/g)]
        : [...body.matchAll(/(?:src|href)="(pages\/[^"]+)"/g)]
      wanted.push(...found.map(([, target = '']) => new URL(target, rig.url + path).pathname))
    }
    expect([...seen]).toContain('/pages/packages/eventsource-parser/parse.js')
    expect([...readPageFiles().keys()].sort()).toEqual([...seen].sort())
  })

  it('are no way to other files', async () => {
    const rig = await startRig()
    for (const path of [
      '/pages/app.js',
      '/pages/http/server.js',
      '/pages/playground/play.ts',
      '/pages/../package.json',
      '/pages/..%2f..%2fpackage.json',
      '/pages/%2e%2e/%2e%2e/etc/passwd',
      '/pages/playground/__proto__',
      '/pages/',
    ]) {
      const { status, body } = await fetchAll(rig.url + path)
      expect(status, path).toBe(404)
      expect(JSON.parse(body).error.code).toBe('route_not_found')
    }
  })

  it('come with every style sheet and every picture there is', () => {
    const folder = join(import.meta.dirname, '../../src/playground')
    const files = readdirSync(folder).filter((name) => /\.(?:css|svg)$/.test(name))
    const served = [...readPageFiles().keys()]
    expect(files.filter((name) => !served.includes(`/pages/playground/${name}`))).toEqual([])
  })

  it('are there on loopback addresses unless switched off, and elsewhere when switched on', async () => {
    const open = { SLUICE_SERVER__HOST: '0.0.0.0', SLUICE_ACCESS__MODE: 'none' }
    const status = async (env: Record<string, string>) => {
      const rig = await startRig({ env })
      return (await fetch(`http://127.0.0.1:${new URL(rig.url).port}/`)).status
    }
    expect(await status({})).toBe(200)
    expect(await status({ SLUICE_SERVER__PLAYGROUND: 'false' })).toBe(404)
    expect(await status(open)).toBe(404)
    expect(await status({ ...open, SLUICE_SERVER__PLAYGROUND: 'true' })).toBe(200)
  })
})
