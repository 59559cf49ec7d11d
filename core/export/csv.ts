import { SignetError } from '../error/signet-error.ts'

/**
 * CSV as RFC 4180 has it: fields separated by commas, lines ended by CR LF, a field with comma, quote, CR or LF in quotes, a quote doubled.
 * A cell that a spreadsheet would take for a formula begins with an apostrophe: one whose first character is `=`, `+`, `-`, `@` (wide
 * forms too), a tab, CR or LF, and, so that the apostrophe can be taken away without doubt, one that begins with an apostrophe itself.
 */
const FORMULA = /^[=+\-@\t\r\n'\uff1d\uff0b\uff0d\uff20]/
const NEEDS_QUOTES = /[",\r\n]/

/** A cell as it is written. `null` is the empty cell. */
export function csvCell(value: string | number | null): string {
  if (value === null) return ''
  const text = String(value)
  const safe = FORMULA.test(text) ? `'${text}` : text
  return NEEDS_QUOTES.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

export function csvLine(values: readonly (string | number | null)[]): string {
  return `${values.map(csvCell).join(',')}\r\n`
}

/** The text that `csvCell` was given. */
export function csvValue(cell: string): string {
  return cell.startsWith("'") && FORMULA.test(cell.slice(1)) ? cell.slice(1) : cell
}

/** Reads what `csvLine` writes, in pieces of any length, and nothing else: quotes in a bare field, and LF without CR, are faults. */
export class CsvReader {
  #state: 'start' | 'bare' | 'quoted' | 'quote' | 'return' = 'start'
  #cell = ''
  #row: string[] = []
  #size = 0
  readonly #maxRowChars: number

  constructor(maxRowChars: number) {
    this.#maxRowChars = maxRowChars
  }

  /** Rows that this piece completes. @throws SignetError EXPORT_INVALID */
  push(text: string): string[][] {
    const rows: string[][] = []
    let from = 0
    const take = (to: number): void => {
      this.#cell += text.slice(from, to)
      this.#size += to - from
      if (this.#size > this.#maxRowChars) throw invalid(`a row has more than ${this.#maxRowChars} characters`)
    }
    for (let i = 0; i < text.length; i++) {
      const c = text[i]
      switch (this.#state) {
        case 'quoted': {
          const quote = text.indexOf('"', i)
          take(quote === -1 ? text.length : quote)
          if (quote === -1) return rows
          i = quote
          from = quote + 1
          this.#state = 'quote'
          break
        }
        case 'quote':
          if (c === '"') {
            this.#state = 'quoted'
            from = i
            take(i + 1)
            from = i + 1
          } else if (c === ',') this.#endCell('start')
          else if (c === '\r') this.#state = 'return'
          else throw invalid('something follows the closing quote of a field')
          if (c !== '"') from = i + 1
          break
        case 'return':
          if (c !== '\n') throw invalid('a CR is not followed by LF')
          this.#endCell('start')
          rows.push(this.#row)
          this.#row = []
          this.#size = 0
          from = i + 1
          break
        default:
          if (c === '"') {
            if (this.#state === 'bare') throw invalid('a quote stands in a field without quotes')
            this.#state = 'quoted'
            from = i + 1
          } else if (c === ',') {
            take(i)
            this.#endCell('start')
            from = i + 1
          } else if (c === '\r') {
            take(i)
            this.#state = 'return'
            from = i + 1
          } else if (c === '\n') throw invalid('a line ends without CR')
          else this.#state = 'bare'
      }
    }
    if (this.#state === 'bare') take(text.length)
    return rows
  }

  /** @throws SignetError EXPORT_INVALID where the last line was not ended */
  end(): void {
    if (this.#state !== 'start' || this.#row.length > 0 || this.#cell !== '')
      throw invalid('the last line is not ended')
  }

  #endCell(state: 'start'): void {
    this.#row.push(this.#cell)
    this.#cell = ''
    this.#state = state
  }
}

function invalid(what: string): SignetError {
  return new SignetError('EXPORT_INVALID', `not CSV as RFC 4180 has it: ${what}`)
}
