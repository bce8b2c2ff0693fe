//! Checks of single values that a definition cannot express: Connect has a few such validators, with words of their own.

/// What is wrong with a key of a class beyond its definition. `value` is the text in the config.
pub(super) fn check(class: &str, key: &str, value: Option<&str>) -> Option<String> {
    let class = class.rsplit('.').next().unwrap_or(class);
    match (class.split('$').next().unwrap_or(class), key) {
        ("Cast", "spec") => casts(&items(value)),
        ("ReplaceField", "renames") => items(value).iter().find_map(|item| rename(&items(value), item)),
        _ => None,
    }
}

fn items(value: Option<&str>) -> Vec<&str> {
    let text = value.unwrap_or_default().trim();
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() }
}

fn casts(items: &[&str]) -> Option<String> {
    if items.is_empty() {
        return Some("Must specify at least one field to cast.".to_owned());
    }
    let mut whole = false;
    for item in items {
        let parts: Vec<&str> = item.split(':').collect();
        if parts.len() > 2 {
            return Some(malformed(items, item));
        }
        whole |= parts.len() == 1;
        let kind = parts.last().map_or("", |kind| kind.trim());
        let known = ["int8", "int16", "int32", "int64", "float32", "float64", "boolean", "string"];
        if !known.iter().any(|known| known.eq_ignore_ascii_case(kind)) {
            return Some(format!("Invalid type found in casting spec: {kind}; there are {}", known.join(", ")));
        }
    }
    (whole && items.len() > 1).then(|| {
        "Cast transformations that specify a type to cast the entire value to may only specify a single cast in their spec".to_owned()
    })
}

fn rename(items: &[&str], item: &str) -> Option<String> {
    (item.split(':').count() != 2 || item.ends_with(':')).then(|| malformed(items, item))
}

fn malformed(items: &[&str], item: &str) -> String {
    format!("Invalid value [{}] for configuration renames: Invalid rename mapping: {item}", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn casts_and_renames() {
        let cast = |spec| check("org.apache.kafka.connect.transforms.Cast$Value", "spec", spec);
        assert_eq!(cast(Some("a:int8, b:String")), None);
        assert_eq!(cast(Some("float64")), None);
        for (spec, part) in [
            (None, "at least one field"),
            (Some("a:int9"), "casting spec: int9"),
            (Some("int8,int16"), "a single cast"),
            (Some("a:b:c"), "Invalid rename mapping: a:b:c"),
        ] {
            assert!(cast(spec).unwrap().contains(part), "{spec:?}");
        }
        let renames = |text| check("org.apache.kafka.connect.transforms.ReplaceField$Key", "renames", Some(text));
        assert_eq!(renames("a:b,c:d"), None);
        assert_eq!(
            renames("a:b,c"),
            Some("Invalid value [a:b, c] for configuration renames: Invalid rename mapping: c".to_owned())
        );
    }
}
