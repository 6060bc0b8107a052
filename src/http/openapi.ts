import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { type ErrorCode, errorTable } from '../core/errors.ts'
import { frameSchema } from '../core/frames.ts'

/** One route, as far as a machine wants to know it. */
export interface RouteDescription {
  readonly method: 'get' | 'post' | 'delete'
  /** With OpenAPI's braces: `/streams/{id}`. */
  readonly path: string
  readonly summary: string
  /** Asks nobody for a key. */
  readonly open?: true
  /** Takes a ticket in the place of a key. */
  readonly tickets?: true
  readonly query?: z.ZodType
  readonly body?: z.ZodType
  /** Request headers by their names in lower case. */
  readonly headers?: z.ZodType
  /** Media types of a success by status; `event-stream` bodies are frames. */
  readonly success: Readonly<Record<number, 'application/json' | 'text/event-stream' | 'text/plain' | 'nothing'>>
}

/**
 * `/openapi.json`, from the schemas that the routes themselves check with.
 * @param asksForKeys on every route that is not open
 */
export function openApiRoute(app: FastifyInstance, routes: readonly RouteDescription[], asksForKeys: boolean): void {
  const document = openApiDocument(routes, asksForKeys)
  app.get('/openapi.json', async () => document)
}

/** @see https://spec.openapis.org/oas/v3.1.1 */
function openApiDocument(routes: readonly RouteDescription[], asksForKeys: boolean): object {
  const paths: Record<string, Record<string, object>> = {}
  for (const route of routes)
    paths[route.path] = { ...paths[route.path], [route.method]: operation(route, asksForKeys) }
  return {
    openapi: '3.1.1',
    info: { title: 'Sluice', version: '1', description: "Claude's streams as Server-Sent Events." },
    paths,
    ...(asksForKeys && { security: keySecurity }),
    components: {
      schemas: { Frame: jsonSchema(frameSchema), Error: jsonSchema(errorSchema) },
      ...(asksForKeys && { securitySchemes }),
    },
  }
}

/** Either will do. */
const securitySchemes = {
  bearer: { type: 'http', scheme: 'bearer' },
  apiKey: { type: 'apiKey', in: 'header', name: 'x-api-key' },
  ticket: { type: 'apiKey', in: 'query', name: 'ticket' },
}

const keySecurity = [{ bearer: [] }, { apiKey: [] }]
const ticketSecurity = [...keySecurity, { ticket: [] }]

const errorSchema = z.strictObject({
  error: z.strictObject({
    code: z.enum(Object.keys(errorTable) as [ErrorCode, ...ErrorCode[]]),
    message: z.string(),
    retryable: z.boolean(),
    request_id: z.string(),
  }),
})

function operation(route: RouteDescription, asksForKeys: boolean): object {
  const { path, summary, open, tickets, query, headers, body, success } = route
  const responses: Record<string, object> = {
    default: { description: 'A failure', content: content('application/json', { $ref: '#/components/schemas/Error' }) },
  }
  for (const [status, type] of Object.entries(success)) {
    const frames = type === 'text/event-stream' ? { $ref: '#/components/schemas/Frame' } : {}
    responses[status] = { description: 'Success', ...(type !== 'nothing' && { content: content(type, frames) }) }
  }
  return {
    summary,
    ...(open && { security: [] }),
    ...(tickets && asksForKeys && { security: ticketSecurity }),
    parameters: [...pathParameters(path), ...parameters(query, 'query'), ...parameters(headers, 'header')],
    ...(body && { requestBody: { required: true, content: content('application/json', jsonSchema(body)) } }),
    responses,
  }
}

function content(type: string, schema: object): object {
  return { [type]: { schema } }
}

function pathParameters(path: string): object[] {
  const names = path.match(/(?<=\{)\w+(?=\})/g) ?? []
  return names.map((name) => ({ name, in: 'path', required: true, schema: { type: 'string' } }))
}

function parameters(schema: z.ZodType | undefined, place: 'query' | 'header'): object[] {
  if (!schema) return []
  const { properties = {}, required = [] } = jsonSchema(schema) as {
    properties?: Record<string, object>
    required?: string[]
  }
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    in: place,
    required: required.includes(name),
    schema,
  }))
}

/** What a client may send; rules that JSON Schema cannot say are left to the error that names them. */
function jsonSchema(schema: z.ZodType): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
  return rest
}
