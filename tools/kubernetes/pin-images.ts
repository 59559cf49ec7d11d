// Writes digests into a chart's values: node pin-images.ts VALUES proxy=sha256:… postgres-trial=sha256:…
import { readFile, writeFile } from 'node:fs/promises'
import { parseDocument } from 'yaml'

const DIGEST = /^sha256:[0-9a-f]{64}$/

/** values.yaml with the digests in `image.digests`, all else as it was. @throws for an image or digest that is none */
export function pinImages(values: string, pins: readonly string[]): string {
  const document = parseDocument(values)
  for (const pin of pins) {
    const [target = '', digest = ''] = pin.split('=')
    const name = target.replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase())
    if (!document.hasIn(['image', 'digests', name])) throw new Error(`the chart has no image ${target}`)
    if (!DIGEST.test(digest)) throw new Error(`${target}: ${digest} is no digest`)
    document.setIn(['image', 'digests', name], digest)
  }
  return document.toString({ lineWidth: 0, flowCollectionPadding: false })
}

if (import.meta.main) {
  const [file, ...pins] = process.argv.slice(2)
  if (file === undefined || pins.length === 0) throw new Error('pin-images.ts VALUES NAME=DIGEST…')
  await writeFile(file, pinImages(await readFile(file, 'utf8'), pins))
}
