/** Tells the server whether a tool may run. @throws Error with what the server says */
export async function sendDecision(
  headers: Record<string, string>,
  stream: string,
  call: string,
  decision: 'approve' | 'deny',
): Promise<void> {
  const url = `streams/${encodeURIComponent(stream)}/tools/${encodeURIComponent(call)}`
  const sent = { ...headers, 'content-type': 'application/json' }
  const response = await fetch(url, { method: 'POST', headers: sent, body: JSON.stringify({ decision }) })
  if (response.ok) return
  const { error } = (await response.json().catch(() => ({}))) as { error?: { message?: string } }
  throw new Error(error?.message ?? `HTTP ${response.status}`)
}
