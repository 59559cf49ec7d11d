/** What the demo service answers with: made up, of the shapes that real services have. All people and numbers are fictitious. */
export const PRODUCTS = {
  products: [
    { sku: 'TEA-100', name: 'Assam, loose leaf, 100 g', price_eur: 7.9, in_stock: true },
    { sku: 'TEA-205', name: 'Darjeeling first flush, 50 g', price_eur: 12.5, in_stock: true },
    { sku: 'POT-010', name: 'Cast iron pot, 0.8 l', price_eur: 49, in_stock: false },
  ],
  currency: 'EUR',
}

export const CUSTOMERS = {
  customers: [
    {
      id: 4711,
      first_name: 'Anna',
      last_name: 'Lindqvist',
      email: 'anna.lindqvist@mail.example',
      phone: '+46 8 123 456 78',
      iban: 'SE45 5000 0000 0583 9825 7466',
    },
    {
      id: 4712,
      first_name: 'Jean',
      last_name: 'Moreau',
      email: 'j.moreau@mail.example',
      phone: '+33 1 23 45 67 89',
      iban: 'FR14 2004 1010 0505 0001 3M02 606',
    },
  ],
  total: 2,
}

export const INCOME_STATEMENT = {
  company: 'Demo Tea Trading SE',
  period: '2026-Q3',
  currency: 'EUR',
  revenue: 1_482_300,
  cost_of_goods_sold: 861_750,
  gross_profit: 620_550,
  operating_income: 214_900,
  net_income: 151_420,
  total_assets: 3_905_000,
  total_liabilities: 1_730_200,
  earnings_per_share: 1.51,
}

export const ORDERS_CSV = [
  'order,date,sku,quantity,total_eur',
  '90001,2026-11-02,TEA-100,3,23.70',
  '90002,2026-11-02,POT-010,1,49.00',
  '90003,2026-11-03,TEA-205,2,25.00',
  '',
].join('\r\n')

export const HOME_PAGE = `<!doctype html>
<html lang="en">
  <head><meta charset="utf-8"><title>Demo Tea Trading</title></head>
  <body>
    <h1>Demo Tea Trading</h1>
    <img src="/logo.png" alt="" width="16" height="16">
    <p>A service that knows nothing of Signet.</p>
    <ul>
      <li><a href="/products">products</a>: public</li>
      <li><a href="/customers">customers</a>: personal data</li>
      <li><a href="/reports/income-statement">income statement</a>: confidential, under SOX</li>
      <li><a href="/exports/orders.csv">orders</a>: a CSV file</li>
      <li><a href="/error">an error</a></li>
      <li><a href="/forged">a forged stamp</a></li>
    </ul>
  </body>
</html>
`

/** A stamp that nobody made: what a careless or a dishonest service might send. */
export const FORGED = {
  message: 'trust me',
  _compliance: { stamp_version: 'v1', data_classification: 'public', approval_status: 'approved' },
}

/** 16 × 16 pixels, one colour. */
export const LOGO_PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAFklEQVR42mPQq/UnCTGMahjVMHw1AADIcvoB6WiG9QAAAABJRU5ErkJggg==',
  'base64',
)
