import type { FastifyInstance, FastifyRequest } from 'fastify'
import { isOffered } from '../core/caps.ts'
import { isConfined, lookUp, type Policy, presetsFor } from '../core/policy.ts'
import type { Upstream } from '../core/ports.ts'
import type { Preset } from '../core/preset.ts'
import { check, modelName } from '../core/request.ts'
import { dialectOf } from './dialect.ts'
import type { Intake } from './intake.ts'

/** `/v1/models`: presets are models to clients who can name nothing else. */
export function modelRoutes(scope: FastifyInstance, intake: Intake, policy: Policy, upstream: Upstream): void {
  scope.get('/v1/models', async (request, reply) => {
    const { caller } = request
    const presets = presetsFor(policy, caller).map(([name, preset]) => describe(name, preset))
    if (isConfined(policy, caller)) return pageOf(presets, false)
    await intake.count(request, reply)
    const query = queryOf(request)
    const page = await upstream.forward('GET', `/v1/models${query}`, dialectOf(request))
    if (!isPage(page)) return page
    const offered = page.data.filter(({ id }) => isOffered(id, policy.caps))
    const isFirst = !/[?&](?:after|before)_id=/.test(query)
    if (offered.length === page.data.length && (presets.length === 0 || !isFirst)) return page
    // The ids between which Claude's next page lies stay as they are.
    return { ...page, data: [...(isFirst ? presets : []), ...offered] }
  })

  scope.get<{ Params: { id: string } }>('/v1/models/:id', async (request, reply) => {
    const name = check(modelId, request.params.id)
    const preset = lookUp(policy, request.caller, name)
    if (preset) return describe(name, preset)
    await intake.count(request, reply)
    return upstream.forward('GET', `/v1/models/${encodeURIComponent(name)}${queryOf(request)}`, dialectOf(request))
  })
}

/** A name of dots alone would lead to another path. */
const modelId = modelName.regex(/[^.]/)

/** As the client wrote it: which parameters there are is Claude's to say. */
function queryOf({ url }: FastifyRequest): string {
  const query = url.split('?', 2)[1]
  return query && query.length <= 2_048 ? `?${query}` : ''
}

interface Model {
  readonly id: string
}

/** In the shape of both APIs. Presets are as old as the settings, which nobody asks. */
function describe(id: string, { description, fields }: Preset) {
  const max_tokens = fields['max_tokens'] ?? null
  const anthropic = {
    type: 'model',
    id,
    display_name: description ?? id,
    created_at: '1970-01-01T00:00:00Z',
    max_tokens,
  }
  return { ...anthropic, object: 'model', created: 0, owned_by: 'sluice' }
}

function pageOf(data: readonly Model[], has_more: boolean) {
  return { object: 'list', data, has_more, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null }
}

function isPage(answer: unknown): answer is { data: Model[] } {
  return Array.isArray((answer as { data?: unknown } | null)?.data)
}
