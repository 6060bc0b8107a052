import type { Toolbox } from '../core/tools.ts'
import { type ToolLog, ToolsFault } from './failures.ts'
import type { Resolve } from './guard.ts'
import type { ToolSettings } from './settings.ts'
import type { ToolSource } from './source.ts'

/**
 * Opens all tools that are declared. What a kind needs is loaded only if there is one: a Sluice without tools does not
 * carry it. A server that cannot be reached is no fault, its tools are off until it can.
 * @throws ToolsFault
 */
export async function openToolbox(settings: ToolSettings, log: ToolLog, resolve?: Resolve): Promise<Toolbox> {
  const sources: ToolSource[] = []
  const closeAll = async () => void (await Promise.all(sources.map((source) => source.close())))
  try {
    const opened = Object.entries(settings).map(([name, each]) => openSource(name, each, log, resolve))
    for (const each of await Promise.allSettled(opened)) if (each.status === 'fulfilled') sources.push(each.value)
    await Promise.all(opened)
  } catch (fault) {
    await closeAll()
    throw fault
  }
  return {
    find: (name) => sources.find(({ tools }) => tools.has(name))?.tools.get(name),
    names: () => sources.flatMap(({ tools }) => [...tools.keys()]),
    close: closeAll,
  }
}

async function openSource(
  name: string,
  settings: ToolSettings[string],
  log: ToolLog,
  resolve: Resolve | undefined,
): Promise<ToolSource> {
  const { systemResolve } = await import('./guard.ts')
  const { SchemaFault } = await import('./schema.ts')
  const resolver = resolve ?? systemResolve
  try {
    if (settings.kind === 'webhook') return (await import('./webhook.ts')).webhook(name, settings, log, resolver)
    return await (await import('./mcp.ts')).openMcp(name, settings, log, resolver)
  } catch (fault) {
    const isTold = fault instanceof ToolsFault || fault instanceof SchemaFault
    throw isTold ? new ToolsFault(`tools.${name}: ${fault.message}`) : fault
  }
}
