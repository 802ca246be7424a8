use super::*;

fn message(role: &'static str, content: &str) -> TemplateMessage {
    TemplateMessage { role, content: content.to_owned(), fields: Vec::new() }
}

fn render_with(source: &str, limits: TemplateLimits, messages: &[TemplateMessage]) -> Result<String, TemplateError> {
    let controls = ["<|end|>".to_owned()];
    let template = ChatTemplate::new(source, "<s>".to_owned(), "<|end|>".to_owned(), limits)?;
    let rendered = template.render(messages, true, &controls)?;
    Ok(rendered.marker.erase(&rendered.text))
}

fn render(source: &str, messages: &[TemplateMessage]) -> Result<String, TemplateError> {
    render_with(source, TemplateLimits::default(), messages)
}

#[test]
fn templates_of_known_models_render() {
    let source = "{{ bos_token }}\n{%- for m in messages %}\n    {% if m.role == 'user' %}\n[{{ m['content'].strip() \
        | upper }}]\n    {% endif %}\n{% endfor %}\n{% if add_generation_prompt %}{{ '>' }}{% endif %}";
    assert_eq!(render(source, &[message("user", " hi ")]).unwrap(), "<s>[HI]\n>");
}

#[test]
fn a_templates_own_refusal_carries_its_words() {
    let source = "{% if messages[0].role != 'user' %}{{ raise_exception('Roles must alternate') }}{% endif %}";
    let error = render(source, &[message("system", "x")]).unwrap_err();
    assert!(matches!(&error, TemplateError::Refused(words) if words == "Roles must alternate"), "{error:?}");
}

#[test]
fn json_is_pythons() {
    let source = r#"{{ {"a": messages[0].content, "b": [1, none]} | tojson }}"#;
    let json = render(source, &[message("user", "<é>&'\\u003c\"")]).unwrap();
    assert_eq!(json, r#"{"a": "<é>&'\\u003c\"", "b": [1, null]}"#);
}

#[test]
fn sums_are_what_they_were() {
    let long = vec!["1"; 500].join("+");
    let lists = "{% set ns = namespace(l=[]) %}{% for i in range(100) %}{% set ns.l = ns.l + [i] %}{% endfor %}";
    for (source, expected) in [
        (format!("{{{{ {long} }}}}"), "500"),
        (format!("{lists}{{{{ ns.l | length + 1 }}}} {{{{ (ns.l + [1])[-1] }}}}"), "101 1"),
        ("{{ 1 + 2 * 3 - 4 + 'é' | length * (2 + 3) }}".to_owned(), "8"),
        (
            "{%- if 'a' + 'b' == 'ab' and 1 + 1 > 1 -%} {{- 'x' * 3 + 'y' ~ (1 + 1) -}} {%- endif %}".to_owned(),
            "xxxy2",
        ),
        ("{% set ns = namespace(a='x=y') %}{%- set ns.b = 'a' if ns.a else 'b' -%}{% set ns.c = [ns.b, 1] | list | length + 1 %}{{ ns.b ~ ns.c }}".to_owned(), "a3"),
        ("{% set ns = namespace() %}{% set ns.m = {'a': [1]} %}{{ ns.m }}{% set ns.s %}text{% endset %}{{ ns.s }}".to_owned(), "{'a': [1]}text"),
        ("{{ [1, 2] | sum }} {{ [{'a': 3}] | sum(attribute='a', start=1) }}".to_owned(), "3 4"),
        ("{{ [1] + [2] + messages | map(attribute='content') | list }}".to_owned(), "[1, 2, 'hi']"),
    ] {
        assert_eq!(render(&source, &[message("user", "hi")]).unwrap(), expected, "{source}");
    }
}

#[test]
fn the_date_is_todays() {
    let year = render("{{ strftime_now('%Y') }}", &[]).unwrap();
    assert_eq!(year, OffsetDateTime::from(wall_clock::now()).year().to_string());
    assert!(matches!(render("{{ strftime_now('%!') }}", &[]), Err(TemplateError::Failed(_))));
}

#[test]
fn limits_end_a_template_that_runs_away() {
    let limits = TemplateLimits { output_bytes: 1000, fuel: 10_000, ..TemplateLimits::default() };
    for source in [
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 100000000 }}",
        "{% for i in range(200) %}0123456789{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ] {
        let result = render_with(source, limits, &[]);
        assert!(matches!(result, Err(TemplateError::Failed(_))), "{source}: {result:?}");
    }
    let long = TemplateLimits { source_bytes: 3, ..limits };
    assert!(matches!(render_with("four", long, &[]), Err(TemplateError::TooLong { limit: 3, given: 4 })));
}

#[test]
fn a_text_is_split_for_as_much_as_it_has_parts() {
    let limits = TemplateLimits::of_strangers();
    let long = [message("assistant", &format!("<think>{}</think>yes", "a b\n".repeat(100_000)))];
    let content = "{{ messages[0].content";
    for one in [".split('</think>')[-1]", ".split(' ', 1)[0] | length"] {
        assert!(render_with(&format!("{content}{one} }}}}"), limits, &long).is_ok(), "{one}");
    }
    for many in [".split('')", ".split(' ')", ".split()", ".splitlines()", ".split('', -1)"] {
        let error = render_with(&format!("{content}{many} | length }}}}"), limits, &long).unwrap_err();
        assert!(error.is_limit(), "{many}: {error:?}");
    }
}

#[test]
fn the_tags_of_trainers_write_nothing() {
    let source =
        "{% for m in messages %}{{ m.role }}:{%- generation -%} {{ m.content }} {%- endgeneration -%}{% endfor %}";
    assert_eq!(render(source, &[message("assistant", "hi")]).unwrap(), "assistant:hi");
}

#[test]
fn templates_of_strangers_cannot_take_time_or_memory() {
    let messages = [message("user", &"abc ".repeat(1000))];
    let limits = TemplateLimits::of_strangers();
    let begin = std::time::Instant::now();
    for source in [
        "{% for i in range(10**9) %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
        "{{ 'a' * 10**9 }}",
        "{{ 'a' * 10**18 }}",
        "{{ ['a'] * 10**9 }}",
        "{% set s = 'a' * 60000 %}{{ s.replace('a', s) }}",
        "{% set s = 'a' * 60000 %}{{ s | replace('a', s) }}",
        "{% set s = 'a' * 60000 %}{{ s.join(s) }}",
        "{% set s = 'a' * 60000 %}{{ s | join(s) }}",
        "{{ 'a' | center(10**9) }}",
        "{{ 'a' | indent(10**9) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{0:>99999999999}'.format(1) }}",
        "{{ '{:,.999999999f}'.format(1.5) }}",
        "{{ '{:{}}'.format(1, 999999999) }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l | length }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = [] + ns.l * 2 %}{% endfor %}{{ ns.l[0] }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l | chain(ns.l) %}{% endfor %}",
        "{% set l = [range(9999) | list] * 9999 %}{{ l | sum(start=[]) | length }}",
        "{% macro m(l, n) %}{{ m(l + l, n + 1) }}{% endmacro %}{{ m([1], 0) }}",
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.a = [{'b': ns}] %}{{ ns | tojson }}",
        "{% set ns = namespace() %}{% set ns.a = {ns: 1} %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.a = {'b': ns}.items() %}{{ ns }}",
        "{% set ns = namespace(l=[]) %}{% for i in range(9000) %}{% set ns.l = [ns.l] %}{% endfor %}",
        "{% set ns = namespace(l=[]) %}{% for i in range(9000) %}{% set ns.l = {'l': ns.l} %}{% endfor %}",
        "{% set ns = namespace(l=[]) %}{% for i in range(9000) %}{% set ns.l = 1 if 0 else (ns.l,) %}{% endfor %}",
        "{% set l = [1] * 10**9 + [] + [] %}{{ l | length }}",
        "{{ range(100000) | batch(3, 'x' * 100000) | list }}",
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(l=[]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(n) %}{{ m(n) ~ m(n) }}{% endmacro %}{{ m(1) }}",
        "{% set s = 'a' * 3000000 %}{% for i in range(90000) %}{{ s.find('b') }}{% endfor %}",
        "{% set s = 'a' * 3000000 %}{% for i in range(90000) %}{{ s | length }}{% endfor %}",
        "{% set s = 'a' * 3000000 %}{% for i in range(90000) %}{% if 'b' in s %}{% endif %}{% endfor %}",
        "{% include 'other' %}",
        "{% import 'other' as other %}{{ other.x }}",
        "{% extends 'other' %}",
        "{% for i in range(20) %}{{ messages[0].content }}{{ '0123456789' * 1000 }}{% endfor %}",
    ] {
        let result = render_with(source, limits, &messages);
        assert!(matches!(result, Err(TemplateError::Failed(_))), "{source}: {:?}", result.map(|text| text.len()));
    }
    assert!(begin.elapsed() < std::time::Duration::from_secs(30), "{:?}", begin.elapsed());
    // Nesting that the parser would follow without end, and the longest source.
    for source in [
        "{{ ".to_owned() + &"(".repeat(60_000),
        "{{ ".to_owned() + &"not ".repeat(12_000) + "1 }}",
        "{{ ".to_owned() + &"-".repeat(30_000) + "1 }}",
        "{% if a %}".to_owned() + &"{% elif a %}".repeat(4000) + "{% endif %}",
        "{% if a %}".repeat(6000),
        "x".repeat((64 << 10) + 1),
    ] {
        assert!(render_with(&source, limits, &messages).is_err());
    }
    let echo = "{{ messages[0].content * 4 }}";
    assert_eq!(render_with(echo, limits, &messages).unwrap().len(), 16_000);
}

#[test]
fn any_bytes_of_a_template_render_within_their_limits_or_are_refused() {
    let messages = [message("system", "be <|end|> kind"), message("user", "hi"), message("assistant", "ho")];
    souk_testkit::fuzz("chat_template", |bytes| {
        let source = String::from_utf8_lossy(bytes);
        match render_with(&source, TemplateLimits::of_strangers(), &messages) {
            Ok(text) => {
                assert!(text.len() <= 65 << 10, "{} bytes", text.len());
                format!("rendered {}", text.chars().take(12).collect::<String>())
            }
            Err(error) => error.reason(),
        }
    });
}
