use proptest::prelude::*;
use tributary_sdk::arrow::array::{BinaryArray, StringArray};
use tributary_sdk::{Batch, Column, Record, Records};

use super::*;

fn batch(key: Option<&str>, value: Column) -> Batch {
    let mut batch = Batch::new("orders", value);
    batch.key = key.map(|key| Column::text(StringArray::from(vec![key])));
    batch.partition = Some(3);
    batch
}

fn fill(template: &str, place: Place, batch: &Batch) -> Result<String, String> {
    let template = Template::parse(template, place).unwrap();
    let row = batch.rows().next().unwrap();
    template.fill_text(&RecordView::new(row, batch.partition))
}

fn json(text: &str) -> Column {
    Column::json(StringArray::from(vec![text]))
}

#[test]
fn fields_stand_in_their_places() {
    let batch = batch(Some("a b/c"), json(r#"{"id":7,"name":"x\"y","items":[{"sku":"é"}],"none":null,"ok":true}"#));
    let url = |template: &str| fill(template, Place::Url, &batch);
    assert_eq!(
        url("http://h/${topic}/${partition}/${key}?n=${value.id}&s=${value.items.0.sku}").unwrap(),
        "http://h/orders/3/a%20b%2Fc?n=7&s=%C3%A9"
    );
    assert_eq!(url("http://h/$${x}/$5").unwrap(), "http://h/${x}/$5");
    for (template, why) in [
        ("${value.none}", "no ${value.none}: it is null"),
        ("${value.missing}", "no ${value.missing}: the record has no such field"),
        ("${value.items}", "no ${value.items}: it is an object or array; name a field of it"),
        ("${offset}", "no ${offset}: the record has none"),
        ("${header.h}", "no ${header.h}: the record has no such header"),
    ] {
        assert_eq!(url(template).unwrap_err(), why);
    }
    let body = |template: &str| fill(template, Place::JsonBody, &batch).unwrap();
    assert_eq!(
        body(r#"{"k":${key},"n":${value.id},"t":"${topic}-${value.name}","v":${value.items},"x":${value.none}}"#),
        r#"{"k":"a b/c","n":7,"t":"orders-x\"y","v":[{"sku":"é"}],"x":null}"#
    );
    assert_eq!(fill("${value.name};${value.id}", Place::Body, &batch).unwrap(), "x\"y;7");
}

#[test]
fn text_and_bytes_are_read_where_a_field_is_asked_for() {
    let text = batch(Some(r#"{"id":1}"#), Column::text(StringArray::from(vec![r#"{"a":[true]}"#])));
    assert_eq!(fill("${key.id}${value.a.0}", Place::Plain, &text).unwrap(), "1true");
    let bytes = batch(None, Column::bytes(BinaryArray::from_vec(vec![b"{\"a\":\"z\"}"])));
    assert_eq!(fill("${value.a}", Place::Plain, &bytes).unwrap(), "z");
    let odd = batch(None, Column::bytes(BinaryArray::from_vec(vec![b"\xff"])));
    assert!(fill("${value.a}", Place::Plain, &odd).unwrap_err().contains("the value is no JSON"));
    assert_eq!(fill("${value}", Place::JsonBody, &odd).unwrap(), r#""/w==""#);
    assert!(fill("${key}", Place::Url, &odd).unwrap_err().contains("it is null"));
}

#[test]
fn headers_are_found_by_their_last() {
    let mut records = Records::to("t");
    records.push(Record::text("v").header("H.a", "1").header("H.a", "2")).unwrap();
    let batch = records.finish().unwrap().remove(0);
    assert_eq!(fill("${header.H.a}", Place::Plain, &batch).unwrap(), "2");
}

#[test]
fn mistakes_are_told() {
    for (text, why) in [
        ("${valu}", "stands for nothing"),
        ("${value.}", "stands for nothing"),
        ("${header.}", "stands for nothing"),
        ("${value", "has no end"),
        ("${value.a..b}", "stands for nothing"),
    ] {
        assert!(Template::parse(text, Place::Url).unwrap_err().contains(why), "{text}");
    }
    assert!(Template::parse("${value}", Place::Body).unwrap().is_value());
    assert!(!Template::parse("${value} ", Place::Body).unwrap().is_value());
}

proptest! {
    /// Whatever stands in a record, a URL has no more parts and a JSON body no other shape.
    #[test]
    fn nothing_breaks_out_of_its_place(text in "\\PC{1,20}|[\"/?#%\\\\{}\\r\\n]{1,5}") {
        let value = serde_json::json!({"a": text}).to_string();
        let batch = batch(Some(&text), json(&value));
        let url = fill("http://h/x/${value.a}/y?q=${key}", Place::Url, &batch).unwrap();
        let uri: hyper::Uri = url.parse().unwrap();
        prop_assert_eq!(uri.path().split('/').count(), 4);
        prop_assert_eq!(uri.query().unwrap().matches(['&', '=']).count(), 1);
        let body = fill(r#"{"k":${key},"s":"<${value.a}>"}"#, Place::JsonBody, &batch).unwrap();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        prop_assert_eq!(&body["k"], &serde_json::json!(text));
        prop_assert_eq!(&body["s"], &serde_json::json!(format!("<{text}>")));
    }
}
