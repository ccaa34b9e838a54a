package demodb

import (
	"math/rand/v2"
	"strings"
	"time"
)

type customer struct {
	id                         int
	name, email, country, plan string
	created                    time.Time
}

type product struct {
	id             int
	name, category string
	cents, stock   int
}

type order struct {
	id, customer, product, quantity, cents int
	status                                 string
	created                                time.Time
}

// people are the customers: name, country, and domain of the address.
const people = `
Ada Lindqvist|SE|example.com
Mateus Carvalho|BR|example.org
Yuki Tanabe|JP|example.net
Hannah Vogel|DE|example.com
Oluwaseun Adeyemi|NG|example.org
Priya Raghavan|IN|example.com
Liam O'Connell|IE|example.net
Camille Desrosiers|FR|example.org
Jakub Zielinski|PL|example.com
Sofia Marchetti|IT|example.net
Noah Whitfield|US|example.com
Ingrid Haugland|NO|example.org
Tomás Echeverría|ES|example.com
Mei-Ling Chou|TW|example.net
Aisha Rahman|AE|example.org
Grace Okafor|NG|example.com
Daniel Hofer|AT|example.net
Elif Demirtas|TR|example.org
Pedro Almeida|PT|example.com
Charlotte Beaumont|CA|example.net
Rasmus Kjeldsen|DK|example.org
Nadia Benslimane|MA|example.com
Oscar Nyberg|SE|example.net
Isabela Fontana|BR|example.org
Kenji Morimoto|JP|example.com
Leonie Brandt|DE|example.net
Marcus Thornbury|GB|example.org
Fatima Zahra Idrissi|MA|example.net
Anders Solheim|NO|example.com
Chloe Kingsley|AU|example.org
Rohan Deshpande|IN|example.net
Wiktoria Kowalczyk|PL|example.org
Emily Hargreaves|GB|example.com
Luca Ferrante|IT|example.org
Samuel Osei|GH|example.com
Hana Svobodova|CZ|example.net
Victor Petrescu|RO|example.org
Zoë Vandenberg|NL|example.com
Diego Salcedo|MX|example.net
Amelia Prescott|US|example.org
Juan Pablo Restrepo|CO|example.com
Katarina Horvat|HR|example.net
Ethan Caldwell|US|example.net
Thandiwe Mokoena|ZA|example.org
Bram de Wit|NL|example.net
Saoirse Gallagher|IE|example.com
Minh Anh Pham|VN|example.org
Eero Lahtinen|FI|example.com
Valentina Rojas|CL|example.net
George Papadakis|GR|example.org`

// goods are the products: name, category, price in cents, stock.
var goods = []product{
	{0, "Aurora mechanical keyboard", "peripherals", 12900, 84},
	{0, "Drift wireless mouse", "peripherals", 4950, 210},
	{0, "Halo 27-inch monitor", "displays", 32900, 41},
	{0, "Halo 34-inch ultrawide monitor", "displays", 58900, 17},
	{0, "Portable 15-inch display", "displays", 19900, 63},
	{0, "Nimbus webcam", "peripherals", 8900, 122},
	{0, "Studio USB microphone", "audio", 11900, 58},
	{0, "Quiet over-ear headphones", "audio", 24900, 73},
	{0, "Travel earbuds", "audio", 7900, 164},
	{0, "Desk speaker pair", "audio", 13900, 36},
	{0, "Eight-port USB-C dock", "accessories", 17900, 95},
	{0, "USB-C cable, 2 m", "accessories", 1490, 620},
	{0, "HDMI cable, 3 m", "accessories", 1890, 410},
	{0, "65 W travel charger", "accessories", 4490, 188},
	{0, "20,000 mAh power bank", "accessories", 5990, 132},
	{0, "Laptop stand, aluminium", "furniture", 6490, 147},
	{0, "Monitor arm", "furniture", 10900, 79},
	{0, "Standing desk, 140 cm", "furniture", 48900, 12},
	{0, "Ergonomic task chair", "furniture", 37900, 23},
	{0, "LED desk lamp", "furniture", 5490, 101},
	{0, "1 TB solid-state drive", "storage", 9900, 156},
	{0, "4 TB backup drive", "storage", 13900, 68},
	{0, "256 GB memory card", "storage", 3990, 275},
	{0, "Two-bay network storage", "storage", 29900, 19},
	{0, "Wi-Fi 7 router", "networking", 21900, 44},
	{0, "Mesh satellite", "networking", 14900, 52},
	{0, "Eight-port switch", "networking", 6900, 90},
	{0, "Hardware security key", "security", 5500, 340},
	{0, "Laptop privacy filter", "security", 3990, 115},
	{0, "Cable lock", "security", 2990, 0},
}

func seedCustomers() []customer {
	r := rand.New(rand.NewPCG(1, Version))
	var out []customer
	for i, line := range strings.Split(strings.TrimSpace(people), "\n") {
		part := strings.Split(line, "|")
		out = append(out, customer{
			id:      i + 1,
			name:    part[0],
			email:   mailbox(part[0]) + "@" + part[2],
			country: part[1],
			plan:    pick(r, "free", "free", "free", "pro", "pro", "enterprise"),
			created: day(2023, 1, 9).AddDate(0, 0, r.IntN(820)),
		})
	}
	return out
}

func seedProducts() []product {
	out := make([]product, len(goods))
	for i, p := range goods {
		p.id = i + 1
		out[i] = p
	}
	return out
}

func seedOrders(customers []customer, products []product) []order {
	const orders = 400
	r := rand.New(rand.NewPCG(2, Version))
	last := day(2026, 6, 30)
	out := make([]order, orders)
	for i := range out {
		// Few customers buy much: the smaller of two draws favours low ids.
		c := customers[min(r.IntN(len(customers)), r.IntN(len(customers)))]
		p := products[r.IntN(len(products))]
		quantity := 1
		if p.cents < 10000 {
			quantity += r.IntN(4)
		}
		days := int(last.Sub(c.created).Hours() / 24)
		created := c.created.AddDate(0, 0, r.IntN(days+1))
		status := pick(r, "delivered", "delivered", "delivered", "delivered", "delivered", "delivered", "cancelled", "refunded")
		if last.Sub(created) < 45*24*time.Hour {
			status = pick(r, "pending", "paid", "shipped", "delivered")
		}
		out[i] = order{i + 1, c.id, p.id, quantity, quantity * p.cents, status, created}
	}
	return out
}

// mailbox turns a name into the local part of an address.
func mailbox(name string) string {
	plain := strings.NewReplacer("á", "a", "í", "i", "ë", "e", "'", "").Replace(strings.ToLower(name))
	return strings.ReplaceAll(plain, " ", ".")
}

func day(year int, month time.Month, d int) time.Time {
	return time.Date(year, month, d, 0, 0, 0, 0, time.UTC)
}

func pick(r *rand.Rand, from ...string) string { return from[r.IntN(len(from))] }
