import type { Caller } from './caller.ts'
import { type Caps, checkCaps, checkModel } from './caps.ts'
import { SluiceError } from './errors.ts'
import { type Delivery, type Preset, withPreset } from './preset.ts'
import type { AskedRequest, MessageRequest } from './request.ts'

/** What clients may ask for, and what they get who do not say. */
export interface Policy {
  readonly defaults: Defaults
  readonly presets: ReadonlyMap<string, Preset>
  /** Every request has to name a preset. */
  readonly presetsOnly: boolean
  /** What a request that has to name one and does not is taken to name. */
  readonly defaultPreset?: string | undefined
  readonly caps: Caps
}

export interface Defaults {
  readonly default_model: string
  readonly default_max_tokens: number
}

/** A request as a route has read it. */
export interface Asking {
  readonly message: AskedRequest
  /** As the client named it. */
  readonly preset?: string | undefined
  /** The clients of this API can name nothing but a model, and have to send a `max_tokens`. */
  readonly byModel?: boolean | undefined
}

const nothingSaid: Delivery = {}

declare const seal: unique symbol

/** A request that may go to Claude. Only `permitted` makes them. */
export interface Permitted {
  readonly request: MessageRequest
  /** The preset that it was made by. */
  readonly preset: string | undefined
  readonly delivery: Delivery
  /** Names of the server's own tools that it offers, where its preset says so. */
  readonly tools?: readonly string[] | undefined
  readonly [seal]: true
}

/**
 * The one decision on what a client may have asked: by whichever route he came, nothing is sent to Claude without it.
 * @throws SluiceError `preset_required`, `preset_not_found`, `preset_conflict`, `model_not_allowed`, `not_allowed`
 */
export function permitted(policy: Policy, caller: Caller, asking: Asking): Permitted {
  const { defaults, caps } = policy
  const { default_model: model, default_max_tokens: max_tokens } = defaults
  const name = presetNamed(policy, caller, asking)
  if (name === undefined) {
    checkCaps(asking.message, caps)
    return { request: { model, max_tokens, ...asking.message }, preset: name, delivery: nothingSaid } as Permitted
  }
  const preset = presetOf(policy, caller, name)
  const { model: asModel, ...rest } = asking.message
  const message = asking.byModel && asModel === name ? rest : asking.message
  const { fields, written } = withPreset(preset, message, { max_tokens, lowers: asking.byModel === true })
  checkCaps(written, caps)
  const { delivery, tools } = preset
  return { request: { model, ...fields } as MessageRequest, preset: name, delivery, tools } as Permitted
}

/** He may name presets and nothing beside them. */
export function isConfined({ presetsOnly }: Policy, caller: Caller): boolean {
  return presetsOnly || caller.presets !== undefined
}

/** Those that he may name. */
export function presetsFor({ presets }: Policy, caller: Caller): [name: string, preset: Preset][] {
  return [...presets].filter(([name]) => mayName(caller, name))
}

/** How the answer to such a request comes, where that has to be known again: its frames are counted by it. */
export function deliveryFor(policy: Policy, caller: Caller, preset: string | undefined): Delivery {
  const name = preset ?? (isConfined(policy, caller) ? policy.defaultPreset : undefined)
  return name === undefined ? nothingSaid : presetOf(policy, caller, name).delivery
}

/** @throws SluiceError `preset_not_found`, also for one that is there and not his */
export function presetOf({ presets }: Policy, caller: Caller, name: string): Preset {
  const preset = mayName(caller, name) ? presets.get(name) : undefined
  if (!preset) throw new SluiceError('preset_not_found')
  return preset
}

/**
 * Who is behind the name of a model: a preset, or `undefined` for a model of Claude's.
 * @throws SluiceError `preset_not_found`, `model_not_allowed`
 */
export function lookUp(policy: Policy, caller: Caller, model: string): Preset | undefined {
  if (isConfined(policy, caller) || policy.presets.has(model)) return presetOf(policy, caller, model)
  checkModel(model, policy.caps)
  return undefined
}

function mayName({ presets }: Caller, name: string): boolean {
  return presets === undefined || presets.includes(name)
}

/** @throws SluiceError `preset_required` */
function presetNamed(policy: Policy, caller: Caller, { preset, message, byModel }: Asking): string | undefined {
  if (preset !== undefined) return preset
  const confined = isConfined(policy, caller)
  const { model } = message
  if (byModel && model !== undefined && (confined || policy.presets.has(model))) return model
  if (!confined) return undefined
  if (policy.defaultPreset === undefined) throw new SluiceError('preset_required')
  return policy.defaultPreset
}
