import { describe, expect, it } from 'vitest'
import { examine } from '../../src/doctor/examine.ts'
import { type Finding, findingsOf, productOf } from '../../src/doctor/findings.ts'
import { startRig } from '../support/sluice.ts'
import { startProxy } from './proxy.ts'

interface Case {
  readonly edits?: Readonly<Record<string, string>>
  readonly tls?: boolean
  readonly silenceMs?: number
}

/** What is not as it should be behind nginx with these changes. */
async function behindNginx({ edits = {}, tls = false, silenceMs = 0 }: Case): Promise<Finding[]> {
  const rig = await startRig({ env: { CORS_ORIGINS: 'https://app.example.com' } })
  const proxy = await startProxy('nginx', { servers: [rig.url], edits, tls })
  const target = { base: new URL(proxy.url), headers: {}, insecure: tls }
  const observation = await examine(target, { silenceMs, origin: 'https://app.example.com' })
  expect(productOf(observation.paced?.headers ?? {})).toBe('nginx')
  return findingsOf(observation).filter(({ level }) => level !== 'good')
}

/** Over HTTP/1.1 nginx hands chunks on as they come, buffering or not; this is what it speaks unless told otherwise. */
const asByDefault = { 'proxy_http_version 1.1;': 'proxy_http_version 1.0;' }
const withoutPosition = {
  'proxy_set_header Host $host;': 'proxy_set_header Host $host; proxy_set_header Last-Event-ID "";',
}
const locally = 'location / {'

describe('the doctor', () => {
  it('has nothing to say against the configuration of the docs', async () => {
    expect(await behindNginx({ tls: true, silenceMs: 2_000 })).toEqual([])
  })

  it('finds buffering', async () => {
    const edits = { ...asByDefault, [locally]: `proxy_ignore_headers X-Accel-Buffering;\n${locally}` }
    expect(await behindNginx({ edits })).toMatchObject([
      {
        about: 'buffering',
        level: 'fault',
        says: expect.stringContaining('21 frames came all at once'),
        advice: { nginx: expect.stringContaining('proxy_buffering off;') },
      },
      { about: 'http/1.0', level: 'warning' },
    ])
  })

  it('finds buffering that a header of ours prevents', async () => {
    expect(await behindNginx({ edits: asByDefault })).toMatchObject([
      { about: 'buffering', level: 'warning', says: expect.stringContaining('X-Accel-Buffering') },
      { about: 'http/1.0', level: 'warning', advice: { nginx: expect.stringContaining('proxy_http_version 1.1;') } },
    ])
  })

  it('finds compression', async () => {
    const found = await behindNginx({ edits: { 'gzip off;': 'gzip on; gzip_types text/event-stream;' } })
    expect(found).toContainEqual(
      expect.objectContaining({ about: 'compression', level: 'fault', says: expect.stringContaining('gzip') }),
    )
  })

  it('finds who cuts silent connections, and after how long', async () => {
    const edits = { 'proxy_read_timeout 60s': 'proxy_read_timeout 10s' }
    const found = await behindNginx({ edits, silenceMs: 15_000 })
    expect(found.filter(({ about }) => about === 'idle')).toMatchObject([
      { level: 'fault', says: expect.stringMatching(/cut after (10|9\.9|10\.\d) s; .* every 15 s/) },
    ])
  })

  it('finds headers that are taken away', async () => {
    const edits = { [locally]: `proxy_hide_header X-Stream-Id;\n${locally}`, ...withoutPosition }
    const found = await behindNginx({ edits })
    expect(found).toContainEqual(
      expect.objectContaining({
        about: 'request headers',
        level: 'fault',
        says: expect.stringContaining('last-event-id does not arrive'),
      }),
    )
  })

  it('finds that nobody tells the server of clients that leave', async () => {
    expect(await behindNginx({ edits: { [locally]: `proxy_ignore_client_abort on;\n${locally}` } })).toMatchObject([
      { about: 'leaving', level: 'fault' },
    ])
  })

  it('finds permissions that are given twice', async () => {
    const edits = { [locally]: `add_header Access-Control-Allow-Origin *;\n${locally}` }
    expect(await behindNginx({ edits })).toMatchObject([
      { about: 'cors', level: 'fault', says: expect.stringContaining('twice') },
    ])
  })
})
