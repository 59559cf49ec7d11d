import { REFERENCE } from './candidates.ts'
import type { Row } from './measure.ts'

const WIDTH = 860
const LABEL_WIDTH = 250
const VALUE_WIDTH = 150
const BAR_HEIGHT = 20
const BAR_STEP = 26
const GROUP_GAP = 40
/** Of Okabe and Ito, told apart by all, on white as on black; Signet's own bars are hatched besides. */
const COLOURS = { other: '#8c8c8c', reference: '#e69f00', signet: '#0072b2' }

/** Horizontal bars of requests per second, grouped by size, each group on a scale of its own. */
export function barChart(rows: readonly Row[]): string {
  const sizes = [...new Set(rows.map(({ size }) => size))]
  const parts: string[] = []
  let y = 24
  for (const size of sizes) {
    // What passes the proxy's core by is no fair yardstick: bars are relative to what is measured on it.
    const group = rows.filter((row) => row.size === size && row.candidate !== 'direct')
    const highest = Math.max(...group.map(({ requestsPerSecond }) => requestsPerSecond))
    const reference = group.find(({ candidate }) => candidate === REFERENCE)?.requestsPerSecond ?? 0
    const scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / highest
    const top = y + 12
    parts.push(`<text class="size" x="0" y="${y}">${size}, requests per second</text>`)
    for (const [index, row] of group.entries()) parts.push(bar(row, top + index * BAR_STEP, scale))
    const x = (LABEL_WIDTH + reference * scale).toFixed(1)
    const bottom = top + group.length * BAR_STEP
    parts.push(`<line class="reference" x1="${x}" y1="${top - 4}" x2="${x}" y2="${bottom}"/>`)
    y = bottom + GROUP_GAP
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y - GROUP_GAP + 8}" role="img" aria-label="Requests per second of each candidate">
<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.size { font-weight: 600 }
.reference { stroke: #1f2328; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .reference { stroke: #e6edf3 } }
</style>
<defs><pattern id="signet" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="8" height="8" fill="${COLOURS.signet}"/><rect width="2" height="8" fill="#56b4e9"/></pattern></defs>
${parts.join('\n')}
</svg>
`
}

function bar(row: Row, y: number, scale: number): string {
  const width = (row.requestsPerSecond * scale).toFixed(1)
  const signet = row.candidate.startsWith('Signet')
  const fill = signet ? 'url(#signet)' : row.candidate === REFERENCE ? COLOURS.reference : COLOURS.other
  const value = `${Math.round(row.requestsPerSecond).toLocaleString('en')} (${row.ratio.toFixed(2)}×)`
  const middle = y + BAR_HEIGHT / 2 + 4
  return [
    `<text x="0" y="${middle}">${row.candidate}</text>`,
    `<rect x="${LABEL_WIDTH}" y="${y}" width="${width}" height="${BAR_HEIGHT}" fill="${fill}"/>`,
    `<text x="${(LABEL_WIDTH + Number(width) + 8).toFixed(1)}" y="${middle}">${value}</text>`,
  ].join('')
}
