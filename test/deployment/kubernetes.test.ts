import { describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { fetchAll } from '../support/client.ts'
import { startRig } from '../support/sluice.ts'
import { exitOf, freePort } from './programs.ts'
import { configOf, read, root } from './settings.ts'

interface Probe {
  readonly httpGet?: { readonly path: string; readonly port: string }
  readonly exec?: { readonly command: string[] }
}

interface Container {
  readonly name: string
  readonly restartPolicy?: string
  readonly ports?: { readonly name: string; readonly containerPort: number }[]
  readonly env: { readonly name: string; readonly value?: string; readonly valueFrom?: object }[]
  readonly startupProbe: Probe
  readonly readinessProbe: Probe
  readonly livenessProbe: Probe
  readonly lifecycle?: { readonly preStop: { readonly exec: { readonly command: string[] } } }
  readonly resources: { readonly limits: Record<string, string>; readonly requests: Record<string, string> }
  readonly securityContext: object
}

interface Manifest {
  readonly kind: string
  readonly metadata: { readonly name: string }
  // biome-ignore lint/suspicious/noExplicitAny: each kind has another one, and the tests say what they expect of it
  readonly spec: any
}

const manifests = (name: string) =>
  parseAllDocuments(read(`docs/deployment/kubernetes/${name}.yaml`)).map((document) => {
    expect(document.errors).toEqual([])
    return document.toJS() as Manifest
  })
const find = (all: Manifest[], kind: string) => all.find((each) => each.kind === kind)?.spec

const service = manifests('service')
const sidecar = manifests('sidecar')
const pods = {
  service: find(service, 'Deployment').template,
  sidecar: find(sidecar, 'Deployment').template,
}
const containers: Record<keyof typeof pods, Container> = {
  service: pods.service.spec.containers[0],
  sidecar: pods.sidecar.spec.initContainers[0],
}
const probesOf = ({ startupProbe, readinessProbe, livenessProbe }: Container) => ({
  startup: startupProbe,
  readiness: readinessProbe,
  liveness: livenessProbe,
})

/** What the container gets, with something in place of what comes from a Secret. */
function configured(container: Container) {
  const values = container.env.map(({ name, value }): [string, string] => [name, value ?? 'redis://redis.example:6379'])
  return configOf(Object.fromEntries(values))
}

describe.each(['service', 'sidecar'] as const)('%s.yaml', (name) => {
  const container = containers[name]

  it('has variables that are settings, as text, and that work together', () => {
    for (const { value, valueFrom } of container.env) expect(typeof (value ?? valueFrom)).toMatch(/string|object/)
    expect(configured(container).apiKeys).toEqual(['test-key'])
  })

  it('waits longer than the drain before it kills', () => {
    const pause = Number(container.lifecycle?.preStop.exec.command[1] ?? 0)
    const { drain_ms } = configured(container).server
    expect(pods[name].spec.terminationGracePeriodSeconds).toBeGreaterThan(pause + drain_ms / 1000 + 2)
  })

  it('runs without rights, with bounds', () => {
    const { securityContext: ofPod = {} } = pods[name].spec
    expect({ ...ofPod, ...container.securityContext }).toMatchObject({
      runAsNonRoot: true,
      runAsUser: 1000,
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
    })
    for (const bounds of [container.resources.limits, container.resources.requests])
      expect(Object.keys(bounds).sort()).toEqual(['cpu', 'memory'])
  })

  it('has room for its heap, its logs and Node itself within its memory', async () => {
    const mebibytes = ({ memory = '' }: Record<string, string>) =>
      memory.endsWith('Gi') ? Number.parseInt(memory, 10) * 1024 : Number.parseInt(memory, 10)
    const options = container.env.find((each) => each.name === 'NODE_OPTIONS')?.value ?? ''
    const [, percent] = /^--max-old-space-size-percentage=(\d+)$/.exec(options) ?? []
    const limit = mebibytes(container.resources.limits)
    const logs = configured(container).streams.max_total_bytes / 2 ** 20
    expect((limit * Number(percent)) / 100 + logs + 100).toBeLessThan(limit)
    // Node takes the option from there.
    expect(await exitOf([process.execPath, '-e', ''], root, { NODE_OPTIONS: options })).toBe(0)
  })

  it('is asked by its probes what the routes answer', async () => {
    const rig = await startRig()
    const probes = probesOf(container)
    const paths = { startup: '/healthz', readiness: '/readyz', liveness: '/healthz' }
    for (const [kind, { httpGet, exec }] of Object.entries(probes)) {
      const path = paths[kind as keyof typeof paths]
      if (httpGet) {
        expect(httpGet.path).toBe(path)
        expect(container.ports?.find((port) => port.name === httpGet.port)?.containerPort).toBe(8787)
        expect((await fetchAll(`${rig.url}${path}`)).status).toBe(200)
      } else {
        const command = (exec?.command ?? []).with(0, process.execPath)
        expect(command[2]).toContain(`http://127.0.0.1:8787${path}`)
        const askedAt = (url: string) =>
          exitOf(
            command.map((word) => word.replace('http://127.0.0.1:8787', url)),
            root,
          )
        expect(await askedAt(rig.url)).toBe(0)
        expect(await askedAt(`http://127.0.0.1:${await freePort()}`)).toBe(1)
      }
    }
  })

  it('mounts the Secret where the key is looked for', () => {
    const path = container.env.find((each) => each.name === 'ANTHROPIC_API_KEY_FILE')?.value
    const [volume] = pods[name].spec.volumes
    expect(`/run/secrets/sluice/${volume.secret.items[0].path}`).toBe(path)
    expect(container).toMatchObject({ volumeMounts: [{ name: volume.name, mountPath: '/run/secrets/sluice' }] })
  })
})

it('the service: its selectors find its pods, several at a time, and one goes at a time', () => {
  const { labels } = pods.service.metadata
  const deployment = find(service, 'Deployment')
  for (const selector of [
    deployment.selector.matchLabels,
    find(service, 'Service').selector,
    find(service, 'PodDisruptionBudget').selector.matchLabels,
    find(service, 'NetworkPolicy').podSelector.matchLabels,
  ])
    expect(labels).toMatchObject(selector)
  expect(deployment.replicas).toBeGreaterThanOrEqual(2)
  expect(find(service, 'PodDisruptionBudget')).toMatchObject({ maxUnavailable: 1 })
  expect(containers.service.lifecycle?.preStop.exec.command[0]).toBe('sleep')
  const redis = containers.service.env.find((each) => each.name === 'REDIS_URL')
  expect(redis?.valueFrom).toMatchObject({ secretKeyRef: { key: 'redis-url' } })
})

it('the sidecar starts before the app, ends after it, and is reached from its pod alone', () => {
  expect(containers.sidecar.restartPolicy).toBe('Always')
  expect(configured(containers.sidecar).server.host).toBe('127.0.0.1')
  expect(containers.sidecar.ports).toBeUndefined()
})
