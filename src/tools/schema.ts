import { Ajv, type ErrorObject, type Options } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'

/** What of a value does not fit, for whoever has to mend it; `undefined` when it fits. */
export type SchemaCheck = (value: unknown) => string | undefined

/** A schema cannot be used; says why. */
export class SchemaFault extends Error {}

/** Formats are notes to people unless a vocabulary asks for more, and unknown keywords are how schemas are extended. */
const options: Options = { allErrors: true, strict: false, validateFormats: false, logger: false }

/** Without `$schema` a schema is of 2020-12, as in the Messages API and MCP. */
const draft2020 = new Ajv2020(options)
const draft7 = new Ajv(options)

const shownFaults = 8

/** @throws SchemaFault */
export function compileSchema(schema: Readonly<Record<string, unknown>>): SchemaCheck {
  const dialect = /draft-0[67]/.test(String(schema['$schema'])) ? draft7 : draft2020
  let validate: ReturnType<typeof dialect.compile>
  try {
    validate = dialect.compile(schema)
  } catch (error) {
    throw new SchemaFault(error instanceof Error ? error.message.slice(0, 300) : 'cannot be compiled')
  } finally {
    // Else every schema that has ever been seen would be kept, and its $id would be taken.
    dialect.removeSchema(schema)
  }
  return (value) => (validate(value) === true ? undefined : describe(validate.errors ?? []))
}

function describe(errors: readonly ErrorObject[]): string {
  const faults = errors.slice(0, shownFaults).map(({ instancePath, message = 'does not fit', params }) => {
    const { additionalProperty, allowedValues } = params as { additionalProperty?: string; allowedValues?: unknown[] }
    const which = additionalProperty ?? (allowedValues && JSON.stringify(allowedValues).slice(0, 500))
    return `${instancePath || 'the input'} ${message}${which === undefined ? '' : `: ${which}`}`
  })
  const more = errors.length - faults.length
  return faults.join('; ') + (more > 0 ? `; and ${more} more` : '')
}
