//! What the records are: orders, clicks and payments.
//!
//! Each is one function that writes the fields of record n, in order, to any [`Writer`]; so the JSON document, the struct
//! and the line of text of a record say the same. Everything comes from the record's number, the seed and the key: a
//! customer has one country, and clicks of a user within half an hour one session.

use crate::config::{EventTime, GeneratorConfig, SchemaName};
use crate::random::Random;
use crate::writer::{Id, Writer, name};

const PRODUCTS: [&str; 16] = [
    "notebook",
    "pencil",
    "pencil",
    "backpack",
    "lamp",
    "chair",
    "desk",
    "headphones",
    "headphones",
    "keyboard",
    "mouse",
    "monitor",
    "cable",
    "cable",
    "charger",
    "charger",
];
const CHANNELS: [&str; 16] = [
    "web", "web", "web", "web", "web", "web", "app", "app", "app", "app", "app", "app", "app", "store", "store",
    "phone",
];
const ORDER_STATES: [&str; 16] = [
    "placed",
    "placed",
    "placed",
    "placed",
    "placed",
    "paid",
    "paid",
    "paid",
    "paid",
    "shipped",
    "shipped",
    "shipped",
    "delivered",
    "delivered",
    "cancelled",
    "returned",
];
const METHODS: [&str; 16] = [
    "card", "card", "card", "card", "card", "card", "card", "card", "wallet", "wallet", "wallet", "wallet", "transfer",
    "transfer", "invoice", "cash",
];
const PAYMENT_STATES: [&str; 16] = [
    "approved", "approved", "approved", "approved", "approved", "approved", "approved", "approved", "approved",
    "approved", "approved", "approved", "approved", "approved", "declined", "pending",
];
/// Countries with their currencies.
const COUNTRIES: [(&str, &str); 16] = [
    ("DE", "EUR"),
    ("DE", "EUR"),
    ("DE", "EUR"),
    ("FR", "EUR"),
    ("FR", "EUR"),
    ("ES", "EUR"),
    ("IT", "EUR"),
    ("NL", "EUR"),
    ("GB", "GBP"),
    ("GB", "GBP"),
    ("US", "USD"),
    ("US", "USD"),
    ("US", "USD"),
    ("US", "USD"),
    ("JP", "JPY"),
    ("CH", "CHF"),
];
const ACTIONS: [&str; 16] = [
    "view",
    "view",
    "view",
    "view",
    "view",
    "view",
    "view",
    "view",
    "view",
    "search",
    "search",
    "search",
    "add_to_cart",
    "add_to_cart",
    "remove",
    "checkout",
];
const DEVICES: [&str; 16] = [
    "mobile", "mobile", "mobile", "mobile", "mobile", "mobile", "mobile", "mobile", "mobile", "desktop", "desktop",
    "desktop", "desktop", "desktop", "tablet", "tablet",
];
const REFERRERS: [&str; 16] = [
    "direct", "direct", "direct", "direct", "direct", "search", "search", "search", "search", "search", "social",
    "social", "social", "mail", "mail", "partner",
];
const SESSION_MS: i64 = 30 * 60 * 1000;

impl SchemaName {
    /// The Connect schema's name.
    pub fn full_name(self) -> &'static str {
        match self {
            Self::Orders => "io.tributary.generator.Order",
            Self::Clicks => "io.tributary.generator.Click",
            Self::Payments => "io.tributary.generator.Payment",
        }
    }
}

/// Writes record `number`; answers its key and its event's time.
pub(crate) fn record(config: &GeneratorConfig, number: u64, out: &mut impl Writer) -> (Id, i64) {
    let mut random = Random::of(config.seed, number);
    let ts = event_time(&config.events, number, &mut random);
    let who = random.skewed(config.keys);
    // What belongs to the key has its own chance, the same in each of its records.
    let (country, currency) = Random::of(config.seed ^ 0x5EED, who.into()).pick(&COUNTRIES);
    let key = match config.schema {
        SchemaName::Orders => {
            let customer = Id::new("c-", who.into(), 6);
            let quantity = 1 + i64::from(random.skewed(5));
            out.id(name!("order_id"), Id::new("o-", number, 10));
            out.id(name!("customer_id"), customer);
            out.time(name!("ts"), ts);
            out.text(name!("product"), random.pick(&PRODUCTS));
            out.integer(name!("quantity"), quantity);
            out.cents(name!("amount"), quantity * price(&mut random));
            out.text(name!("currency"), currency);
            out.text(name!("country"), country);
            out.text(name!("channel"), random.pick(&CHANNELS));
            out.text(name!("status"), random.pick(&ORDER_STATES));
            customer
        }
        SchemaName::Clicks => {
            let user = Id::new("u-", who.into(), 6);
            let session = Random::of(config.seed.wrapping_add(who.into()), ts.div_euclid(SESSION_MS) as u64).next();
            out.id(name!("click_id"), Id::new("k-", number, 10));
            out.id(name!("user_id"), user);
            out.id(name!("session_id"), Id::new("s-", session >> 34, 10));
            out.time(name!("ts"), ts);
            out.id(name!("page"), Id::new("/products/", random.skewed(1000).into(), 1));
            out.text(name!("action"), random.pick(&ACTIONS));
            out.text(name!("device"), random.pick(&DEVICES));
            out.text(name!("referrer"), random.pick(&REFERRERS));
            out.text(name!("country"), country);
            out.integer(name!("duration_ms"), 50 + i64::from(random.skewed(60_000)));
            user
        }
        SchemaName::Payments => {
            let customer = Id::new("c-", who.into(), 6);
            out.id(name!("payment_id"), Id::new("p-", number, 10));
            out.id(name!("customer_id"), customer);
            out.time(name!("ts"), ts);
            out.cents(name!("amount"), price(&mut random));
            out.text(name!("currency"), currency);
            out.text(name!("method"), random.pick(&METHODS));
            out.id(name!("merchant"), Id::new("m-", random.skewed(500).into(), 4));
            out.text(name!("country"), country);
            out.text(name!("status"), random.pick(&PAYMENT_STATES));
            out.flag(name!("online"), random.below(4) > 0);
            customer
        }
    };
    out.end();
    (key, ts)
}

/// 0.99 to 500, in cents; most are small.
fn price(random: &mut Random) -> i64 {
    99 + i64::from(random.skewed(49_902))
}

fn event_time(events: &EventTime, number: u64, random: &mut Random) -> i64 {
    let after = u128::from(number) * u128::from(events.step_us) / 1000;
    let back = if events.disorder_ms == 0 { 0 } else { random.below(events.disorder_ms + 1) };
    events.start_ms.saturating_add(after.min(1 << 62) as i64).saturating_sub(back.min(1 << 62) as i64)
}
