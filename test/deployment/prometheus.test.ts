import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { fetchAll } from '../support/client.ts'
import { sim, startRig } from '../support/sluice.ts'
import { exitOf, freePort, run } from './programs.ts'
import { read, root } from './settings.ts'

const folder = mkdtempSync(join(tmpdir(), 'sluice-prometheus-'))
const promtool = (...args: string[]) => exitOf(['promtool', ...args], folder)

it('promtool takes the rules and the configuration, and the alerts do what their tests say', async () => {
  const path = (name: string) => join(root, 'config/prometheus', name)
  expect(await promtool('check', 'rules', path('rules.yaml'))).toBe(0)
  expect(await promtool('check', 'config', '--syntax-only', path('prometheus.yaml'))).toBe(0)
  expect(await promtool('test', 'rules', path('rules.test.yaml'))).toBe(0)
})

it('every alert has a test', () => {
  const named = (file: string) => [...read(file).matchAll(/\balert(?:name)?: (\w+)/g)].map(([, name]) => name)
  expect(new Set(named('config/prometheus/rules.test.yaml'))).toEqual(new Set(named('config/prometheus/rules.yaml')))
})

interface Panel {
  readonly title: string
  readonly targets?: readonly { readonly expr: string }[]
}

it('a real Prometheus scrapes Sluice with the token, and answers every question of the dashboard', async () => {
  const token = 'operators-token-0123456789'
  const { url } = await startRig({ env: { OPS_TOKEN: token } })
  await fetchAll(`${url}/stream`, { body: { prompt: 'hi', model: sim({ text: 3 }) } })
  const credentials = join(folder, 'token')
  writeFileSync(credentials, token)
  const settings = read('config/prometheus/prometheus.yaml')
    .replace('/etc/prometheus/sluice-ops-token', credentials)
    .replace(/targets: .*/, `targets: ['${new URL(url).host}']`)
    .replace('scrape_interval: 15s', 'scrape_interval: 100ms\n  scrape_timeout: 100ms')
    .replace('rules.yaml', join(root, 'config/prometheus/rules.yaml'))
  writeFileSync(join(folder, 'prometheus.yaml'), settings)
  const port = await freePort()
  const flags = [`--config.file=${folder}/prometheus.yaml`, `--storage.tsdb.path=${folder}/data`]
  await run(['prometheus', ...flags, `--web.listen-address=127.0.0.1:${port}`], folder)
  const query = async (expr: string) => {
    const { body } = await fetchAll(`http://127.0.0.1:${port}/api/v1/query?${new URLSearchParams({ query: expr })}`)
    return JSON.parse(body) as { status: string; data: { result: { value: [number, string] }[] } }
  }
  await expect
    .poll(
      async () => (await query('sluice_streams_ended_total{reason="end_turn"} == 1').catch(() => undefined))?.data,
      {
        timeout: 15_000,
      },
    )
    .toMatchObject({ result: [{ value: [expect.any(Number), '1'] }] })
  expect((await query('up')).data.result.map(({ value }) => value[1])).toEqual(['1'])
  const { panels } = JSON.parse(read('config/grafana-dashboard.json')) as { panels: Panel[] }
  const questions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
  expect(questions.length).toBeGreaterThan(40)
  for (const question of questions) {
    const asked = question.replaceAll('$job', '.*').replaceAll('$__rate_interval', '1m')
    expect(await query(asked), question).toMatchObject({ status: 'success' })
  }
})
