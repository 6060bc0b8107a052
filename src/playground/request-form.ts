import { byId, h } from './dom.ts'

interface Model {
  readonly id: string
  readonly display_name?: string
  readonly owned_by?: string
}

const value = (id: string) => byId<HTMLInputElement>(id).value.trim()

/** What the form says of a request, beside its messages. @throws Error in words for whoever has filled it in */
export function requestOptions(): Record<string, unknown> {
  const max_tokens = wholeNumber('Max tokens', value('max_tokens'))
  const budget = wholeNumber('The thinking budget', value('thinking'))
  return {
    ...filled('preset'),
    ...filled('model'),
    ...filled('system'),
    ...(max_tokens !== undefined && { max_tokens }),
    ...(budget !== undefined && { thinking: { type: 'enabled', budget_tokens: budget } }),
    ...toolsOf(value('tools')),
    ...filled('on_disconnect'),
    ...filled('smooth'),
  }
}

function filled(id: string): Record<string, string> {
  const text = value(id)
  return text === '' ? {} : { [id]: text }
}

function wholeNumber(what: string, text: string): number | undefined {
  if (text === '') return undefined
  if (!/^\d{1,7}$/.test(text)) throw new Error(`${what} must be a whole number.`)
  return Number(text)
}

function toolsOf(text: string): { tools?: unknown } {
  if (text === '') return {}
  let tools: unknown
  try {
    tools = JSON.parse(text)
  } catch (error) {
    throw new Error(`The tools are no JSON: ${error instanceof Error ? error.message : error}`)
  }
  if (!Array.isArray(tools)) throw new Error('The tools must be a list: [ … ]')
  return { tools }
}

/**
 * Fills the lists of presets and models.
 * @returns false when a key is needed for that
 */
export async function loadModels(headers: Record<string, string>): Promise<boolean> {
  const response = await fetch('v1/models?limit=1000', { headers })
  if (response.status === 401) return false
  // What Claude does not tell can still be written by hand.
  const data = response.ok ? (((await response.json()) as { data?: Model[] }).data ?? []) : []
  const presets = data.filter(({ owned_by }) => owned_by === 'sluice')
  const models = data.filter(({ owned_by }) => owned_by !== 'sluice')
  byId('models').replaceChildren(
    ...models.map(({ id, display_name }) => h('option', { value: id }, display_name ?? id)),
  )
  byId('preset-field').hidden = presets.length === 0
  const named = presets.map(({ id, display_name }) => h('option', { value: id, title: display_name ?? id }, id))
  byId('preset').replaceChildren(h('option', { value: '' }, models.length === 0 ? 'server default' : 'none'), ...named)
  return true
}

/** Chooses a model, and so no preset: that says the model itself, and most refuse another. */
export function chooseModel(model: string): void {
  byId<HTMLSelectElement>('preset').value = ''
  byId<HTMLInputElement>('model').value = model
}

byId('preset').addEventListener('change', () => {
  if (value('preset') !== '') byId<HTMLInputElement>('model').value = ''
})

export function isSimulated(): boolean {
  return byId('models').querySelector('option[value="claude-sim"]') !== null
}
