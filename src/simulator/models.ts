/** @see https://platform.claude.com/docs/en/api/models-list */
export const models = ['claude-sim', 'claude-sim-2', 'claude-sim-1'].map((id, n) => ({
  type: 'model',
  id,
  display_name: `Simulated Claude ${3 - n}`,
  created_at: `2026-0${6 - n}-01T00:00:00Z`,
  lifecycle: 'active',
  ...{ deprecated_at: null, retires_at: null, line: null, capabilities: null },
  ...{ max_input_tokens: 1_000_000, max_tokens: 128_000 },
}))

export function listModels(query: URLSearchParams): object {
  const rest = models.slice(models.findIndex(({ id }) => id === query.get('after_id')) + 1)
  const data = rest.slice(0, Number(query.get('limit') ?? 20))
  return { data, has_more: data.length < rest.length, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null }
}
