//! What `souk hook` prints.

use serde_json::Value;

use crate::terminal::{self, cell};

pub(super) fn hooks(hooks: &[Value], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(terminal::json(&hooks)?);
    }
    let row =
        |hook: &Value| ["id", "latest_version", "visibility", "description"].map(|field| cell(hook, field)).to_vec();
    Ok(terminal::table(
        &["HOOK", "LATEST", "VISIBILITY", "WHAT IT IS FOR"],
        &hooks.iter().map(row).collect::<Vec<_>>(),
    )?)
}

pub(super) fn hook(hook: &Value, versions: &[Value]) -> anyhow::Result<()> {
    terminal::line(&format!("{} ({})", cell(hook, "id"), cell(hook, "visibility")))?;
    let description = cell(hook, "description");
    if !description.is_empty() {
        terminal::line(&description)?;
    }
    let row = |version: &Value| {
        let report = &version["report"];
        let [size, exports, imports] = ["size_bytes", "exports", "imports"].map(|field| cell(report, field));
        vec![cell(version, "version"), cell(version, "state"), size, exports, imports, cell(version, "created_at")]
    };
    let rows: Vec<_> = versions.iter().map(row).collect();
    Ok(terminal::table(&["VERSION", "STATE", "BYTES", "EXPORTS", "IMPORTS", "PUBLISHED"], &rows)?)
}

pub(super) fn version(version: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(terminal::json(version)?);
    }
    let report = &version["report"];
    let mut rows = vec![
        vec!["version".to_owned(), cell(version, "id")],
        vec!["state".to_owned(), cell(version, "state")],
        vec!["digest".to_owned(), cell(version, "digest")],
    ];
    let mut add = |what: &str, text: String| {
        if !text.is_empty() {
            rows.push(vec![what.to_owned(), text]);
        }
    };
    add("reason", cell(version, "state_reason"));
    for (what, of, field) in [
        ("bytes", report, "size_bytes"),
        ("interface", report, "interface"),
        ("exports", report, "exports"),
        ("imports", report, "imports"),
        ("summary", &report["description"], "summary"),
        ("fuel of the self-test", &report["self_test"], "fuel"),
        ("memory of the self-test", &report["self_test"], "peak_memory_bytes"),
        ("milliseconds to compile", &report["self_test"], "compiled_in_ms"),
    ] {
        add(what, cell(of, field));
    }
    Ok(terminal::table(&["", ""], &rows)?)
}

pub(super) fn pipeline(pipeline: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(terminal::json(pipeline)?);
    }
    pipelines(std::slice::from_ref(pipeline), false)
}

pub(super) fn pipelines(pipelines: &[Value], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(terminal::json(&pipelines)?);
    }
    let rows: Vec<_> = pipelines.iter().flat_map(rows).collect();
    Ok(terminal::table(&["AT", "TARGET", "NUMBER", "HOOK", "VERSION", "FAILS", "SHARE", "STANDING", "CONFIG"], &rows)?)
}

/// A row for each step; one that says that there is none.
fn rows(pipeline: &Value) -> Vec<Vec<String>> {
    let place = ["at", "target", "number"].map(|field| cell(pipeline, field)).to_vec();
    let steps = pipeline["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    if steps.is_empty() {
        return vec![[place, vec!["no hooks".to_owned()]].concat()];
    }
    let row = |step: &Value| {
        let share = format!("{}..{}", step["share"]["from"], step["share"]["below"]);
        let fields = ["hook", "version", "on_failure"].map(|field| cell(step, field)).to_vec();
        let rest = vec![share, cell(step, "standing"), step["config"].to_string()];
        [place.clone(), fields, rest].concat()
    };
    steps.iter().map(row).collect()
}

pub(super) fn settings(settings: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(terminal::json(settings)?);
    }
    let variables = settings["variables"].as_object().into_iter().flatten();
    let rows: Vec<_> =
        variables.map(|(name, value)| vec![name.clone(), value.as_str().unwrap_or_default().to_owned()]).collect();
    terminal::table(&["VARIABLE", "VALUE"], &rows)?;
    let readers = cell(settings, "log_readers");
    if !readers.is_empty() {
        terminal::line(&format!("\nread by: {readers}"))?;
    }
    Ok(())
}

pub(super) fn lines(lines: &[Value], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(terminal::json(&lines)?);
    }
    let row = |line: &Value| {
        let what = ["part", "code", "text"].map(|field| cell(line, field)).into_iter().filter(|text| !text.is_empty());
        let fields = ["at", "version", "kind", "request"].map(|field| cell(line, field));
        fields.into_iter().chain([what.collect::<Vec<_>>().join(" ")]).collect()
    };
    Ok(terminal::table(&["AT", "VERSION", "KIND", "REQUEST", ""], &lines.iter().map(row).collect::<Vec<_>>())?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pipeline_has_a_row_for_each_step_and_one_where_there_is_none() {
        let none = json!({ "at": "tenant", "target": "acme", "number": 0, "steps": [] });
        assert_eq!(rows(&none), [["tenant", "acme", "0", "no hooks"]]);
        let one = json!({ "at": "route", "target": "chat", "number": 3, "steps": [{
            "hook": "acme/mask", "version": "1.0.0", "config": { "a": 1 }, "on_failure": "skip",
            "share": { "from": 0, "below": 10 }, "standing": "callable",
        }] });
        let row = ["route", "chat", "3", "acme/mask", "1.0.0", "skip", "0..10", "callable", r#"{"a":1}"#];
        assert_eq!(rows(&one), [row]);
    }
}
