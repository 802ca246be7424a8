//! The part of JSON Schema that answers are held to.

use souk_hook::json::Value;

/// Why a value does not fit, with the place in it.
pub fn check(value: &Value, schema: &Value) -> Result<(), String> {
    at(value, schema, "")
}

fn at(value: &Value, schema: &Value, place: &str) -> Result<(), String> {
    let fails =
        |what: String| Err(format!("the answer does not fit: {} {what}", if place.is_empty() { "it" } else { place }));
    if let Some(types) = schema.get("type") {
        let names: Vec<&str> =
            types.as_str().into_iter().chain(types.items().iter().filter_map(Value::as_str)).collect();
        if !names.iter().any(|name| is_a(value, name)) {
            return fails(format!("is {}, expected {}", value.kind(), names.join(" or ")));
        }
    }
    if let Some(constant) = schema.get("const")
        && !same(constant, value)
    {
        return fails(format!("is not {constant}"));
    }
    if let Some(allowed) = schema.get("enum")
        && !allowed.items().iter().any(|allowed| same(allowed, value))
    {
        return fails(format!("is none of {allowed}"));
    }
    match value {
        Value::Object(members) => object(members, value, schema, place),
        Value::Array(items) => array(items, schema, place),
        Value::String(text) => within(text.chars().count() as f64, "Length", "characters", schema).or_else(fails),
        Value::Number(_) => number(value.as_f64().unwrap_or(f64::NAN), schema).or_else(fails),
        _ => Ok(()),
    }
}

fn object(members: &[(String, Value)], value: &Value, schema: &Value, place: &str) -> Result<(), String> {
    for name in schema.texts("required") {
        if value.get(&name).is_none() {
            return Err(format!("the answer does not fit: {place}/{name} is missing"));
        }
    }
    let properties = schema.get("properties");
    let others = schema.get("additionalProperties");
    for (name, member) in members {
        let place = format!("{place}/{name}");
        match (properties.and_then(|properties| properties.get(name)), others) {
            (Some(schema), _) => at(member, schema, &place)?,
            (None, Some(Value::Bool(false))) => {
                return Err(format!("the answer does not fit: {place} is not asked for"));
            }
            (None, Some(schema @ Value::Object(_))) => at(member, schema, &place)?,
            (None, _) => {}
        }
    }
    Ok(())
}

fn array(items: &[Value], schema: &Value, place: &str) -> Result<(), String> {
    within(items.len() as f64, "Items", "items", schema)
        .map_err(|what| format!("the answer does not fit: {place} {what}"))?;
    let Some(schema) = schema.get("items") else { return Ok(()) };
    items.iter().enumerate().try_for_each(|(index, item)| at(item, schema, &format!("{place}/{index}")))
}

/// How many of something there are, held to `minX` and `maxX`.
fn within(count: f64, of: &str, unit: &str, schema: &Value) -> Result<(), String> {
    let bound = |side: &str| schema.get(&format!("{side}{of}")).and_then(Value::as_f64);
    match (bound("min"), bound("max")) {
        (Some(least), _) if count < least => Err(format!("has {count} {unit}, fewer than {least}")),
        (_, Some(most)) if count > most => Err(format!("has {count} {unit}, more than {most}")),
        _ => Ok(()),
    }
}

fn number(value: f64, schema: &Value) -> Result<(), String> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    match (bound("minimum"), bound("maximum")) {
        (Some(least), _) if value < least => Err(format!("is {value}, below {least}")),
        (_, Some(most)) if value > most => Err(format!("is {value}, above {most}")),
        _ => Ok(()),
    }
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        name => value.kind() == name,
    }
}

/// Numbers are the same by value, objects in any order.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(_), Value::Number(_)) => one.as_f64() == other.as_f64(),
        (Value::Array(these), Value::Array(those)) => {
            these.len() == those.len() && these.iter().zip(those).all(|(this, that)| same(this, that))
        }
        (Value::Object(these), Value::Object(those)) => {
            these.len() == those.len()
                && these.iter().all(|(name, this)| other.get(name).is_some_and(|that| same(this, that)))
        }
        _ => one == other,
    }
}
