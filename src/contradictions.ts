import { isLoopbackAddress } from './core/address.ts'
import { modelsIn, toolsIn } from './core/caps.ts'
import type { Format } from './core/format.ts'
import type { PresetSettings } from './core/preset.ts'
import { matchesModel } from './core/request.ts'
import { type FormatName, formats } from './formats/registry.ts'
import type { Settings } from './settings.ts'
import { offeredNames, toolFaults } from './tools/settings.ts'

/** Settings that are valid each and cannot work together. */
export function contradictions(settings: Settings): string[] {
  const { server, access, store, telemetry } = settings
  const faults = [...priceless(settings)]
  if (!isLoopback(server.host) && access.mode === undefined) {
    faults.push(
      `server.host: ${server.host} can be reached from other machines, and anybody there could spend your tokens; ` +
        'write access.mode: keys and give keys to those who may (or jwt, if somebody gives them tokens), ' +
        'or access.mode: none (SLUICE_ACCESS__MODE=none) if something in front of Sluice keeps them out',
    )
  }
  faults.push(...accessFaults(access))
  if (server.headers_timeout_ms > server.request_timeout_ms) {
    faults.push('server.headers_timeout_ms: must not be longer than server.request_timeout_ms, which includes it')
  }
  faults.push(...toolLimitFaults(settings))
  if (telemetry.send_traceparent && telemetry.otlp_endpoint === undefined) {
    faults.push('telemetry.send_traceparent: there are no traces without telemetry.otlp_endpoint')
  }
  if (server.workers > 1 && store.url === undefined) {
    faults.push(
      `server.workers: ${server.workers} workers share their streams and keys through Redis; ` +
        'set REDIS_URL, or run one worker',
    )
  }
  return [...faults, ...policyFaults(settings), ...toolFaults(settings.tools)]
}

function toolLimitFaults({ tools, tool_limits, streams }: Settings): string[] {
  if (Object.keys(tools).length === 0) return []
  const { max_result_bytes, max_total_result_bytes } = tool_limits
  const faults: string[] = []
  if (max_result_bytes > max_total_result_bytes) {
    faults.push('tool_limits.max_result_bytes: must not be more than max_total_result_bytes, which includes it')
  }
  if (max_total_result_bytes > streams.max_bytes) {
    faults.push(
      'tool_limits.max_total_result_bytes: must not be more than streams.max_bytes: results are in the stream',
    )
  }
  return faults
}

/** What no client could ask for, and what a client would be refused who asks for nothing in particular. */
function policyFaults(settings: Settings): string[] {
  const { access, presets, upstream } = settings
  const faults: string[] = []
  const { presets_only, default_preset, models, max_tokens } = access
  if (presets_only && Object.keys(presets).length === 0) {
    faults.push('access.presets_only: without any presets nobody can ask for anything')
  }
  if (default_preset !== undefined && !Object.hasOwn(presets, default_preset)) {
    faults.push(`access.default_preset: ${default_preset} is none of the presets`)
  }
  if (!presets_only && models.length > 0 && !models.some((each) => matchesModel(each, upstream.default_model))) {
    faults.push('upstream.default_model: is none of access.models, and requests that name no model would be refused')
  }
  if (max_tokens !== undefined && !presets_only && max_tokens < upstream.default_max_tokens) {
    faults.push('access.max_tokens: is less than upstream.default_max_tokens, which requests get that send none')
  }
  return [...faults, ...Object.entries(presets).flatMap(([name, preset]) => presetFaults(name, preset, settings))]
}

function presetFaults(name: string, preset: PresetSettings, { access, upstream, tools }: Settings): string[] {
  const faults: string[] = []
  const declared = new Set(Object.entries(tools).flatMap(([each, tool]) => offeredNames(each, tool)))
  for (const tool of (preset.tools ?? []).filter((each) => typeof each === 'string')) {
    if (!declared.has(tool)) faults.push(`presets.${name}.tools: ${tool} is none that the section tools declares`)
  }
  const format: Format = formats[(preset.format ?? 'json') as FormatName]
  if (preset.smooth && !format.smoothable) faults.push(`presets.${name}.smooth: does not work with ${format.name}`)
  for (const field of access.forbidden_fields.filter((each) => preset.allow.includes(each))) {
    faults.push(`presets.${name}.allow: ${field} is one of access.forbidden_fields`)
  }
  const { max_tokens = upstream.default_max_tokens } = preset
  const budget = preset.thinking?.['budget_tokens']
  if (typeof budget === 'number' && budget >= max_tokens) {
    faults.push(`presets.${name}.thinking.budget_tokens: must be less than max_tokens, which includes it`)
  }
  return faults
}

function accessFaults(access: Settings['access']): string[] {
  const faults: string[] = []
  const hasKeys = access.keys.length > 0 || access.keys_file !== undefined
  // Somebody believes that these keys are asked for.
  if (hasKeys && access.mode !== 'keys')
    faults.push('access.mode: must be keys where there are any, or nobody needs one')
  if (!hasKeys && access.mode === 'keys') {
    faults.push('access.mode: keys without any lets nobody in; make one with `sluice keys new`')
  }
  if (access.jwt && access.mode !== 'jwt') faults.push('access.mode: must be jwt for access.jwt to be of use')
  if (!access.jwt && access.mode === 'jwt') faults.push('access.jwt: must say whose tokens access.mode: jwt takes')
  const hasMode = access.mode === 'keys' || access.mode === 'jwt'
  if (access.tickets.secret !== undefined && !hasMode) {
    faults.push('access.mode: must be keys or jwt where there is access.tickets.secret, or nobody needs a ticket')
  }
  return faults
}

/** Where spending is limited, what a model costs has to be known. */
function priceless({ access, upstream, presets }: Settings): string[] {
  const { default_model, fallback_models, prices } = upstream
  const place = (['limits', 'total_limits'] as const).find((each) => access[each].usd_per_day !== undefined)
  if (place === undefined) return []
  if (Object.keys(prices).length === 0)
    return [`access.${place}.usd_per_day: needs upstream.prices, or nobody knows what anything costs`]
  const models = new Set([default_model, ...fallback_models])
  for (const preset of Object.values(presets)) {
    for (const model of modelsIn(preset, toolsIn(preset))) models.add(String(model))
  }
  const unknown = [...models].filter((model) => !Object.hasOwn(prices, model))
  const fast = Object.entries(presets).filter(([, { speed }]) => (speed ?? 'standard') !== 'standard')
  return [
    ...unknown.map((model) => `upstream.prices: has no ${model}, and access.${place}.usd_per_day needs it`),
    ...fast.map(
      ([name]) => `presets.${name}.speed: upstream.prices has none for it, and access.${place}.usd_per_day needs it`,
    ),
  ]
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || isLoopbackAddress(host)
}
