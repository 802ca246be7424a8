//! What a stranger's chat template takes of memory. A test of its own, since it counts what the whole process allocates.

use souk_protocol::chat::{ChatTemplate, TemplateError, TemplateLimits, TemplateMessage};
use souk_testkit::CountingAllocator;

/// Most that compiling and rendering takes beside eight times the messages, as docs/operate.md says.
const MAX_BYTES: usize = 12 << 20;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Templates that multiply what they have.
fn hostile() -> Vec<String> {
    let long = "{% set s = 'a' * 60000 %}";
    let all = "{% set ns = namespace(l=[]) %}{% for i in range(9000) %}{% set ns.l = ns.l + [BODY] %}{% endfor %}{{ ns.l | length }}";
    let kept = |body: &str| format!("{long}{}", all.replace("BODY", body));
    let mut sources: Vec<String> = [
        "messages[0].content",
        "messages[0].content ~ i",
        "s ~ i",
        "s | upper",
        "s | replace('a', 'bb')",
        "s.split('a')",
        "s | list",
        "s[::-1]",
        "s | tojson",
        "s | tojson(indent=8)",
        "messages | tojson",
        "s | urlencode",
        "s | escape",
        "s | indent(4)",
        "s | reverse",
        "s | title",
        "'%s%s' | format(s, s)",
        "s.replace('a', 'aaaa')",
        "[s, s] | join(s)",
        "s.splitlines()",
        "s | lines",
        "range(9999) | list",
        "range(9999) | batch(2) | list",
        "range(9999) | slice(2) | list",
        "dict(a=s ~ i)",
        "(s ~ i) | trim",
        "s * 2",
        "messages | map(attribute='content') | join",
        "'{}{}'.format(s, s)",
        "messages | list",
        "messages | sort(attribute='role')",
        "messages | groupby('role')",
        "s | string ~ s",
        "s | center(90000)",
    ]
    .into_iter()
    .map(kept)
    .collect();
    sources.extend(
        [
            "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            "{% macro m(s) %}{{ m(s ~ s) }}{% endmacro %}{{ m('aaaa') }}",
            "{% macro m(s, n) %}{{ s }}{% if n %}{{ m(s ~ s, n - 1) }}{% endif %}{% endmacro %}{{ m('aaaa', 40) }}",
            "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set t %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = t %}{% endfor %}",
            "{% for i in range(99) %}{% filter upper %}{{ messages[0].content * 9 }}{% endfilter %}{% endfor %}",
            "{% set s = messages[0].content %}{{ s.join(s.join('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')) }}",
            "{% set s = messages[0].content %}{{ s | replace('', s) }}",
            "{% set s = messages[0].content %}{{ s.replace('', s) | length }}",
            "{{ messages[0].content.split('') | length }}{{ messages[0].content | list | length }}",
            "{{ '{:>9999999}'.format('a') | length }}",
        ]
        .map(str::to_owned),
    );
    sources
}

/// Templates at the limit of their length, of parts that a compiler makes most of.
fn long() -> Vec<String> {
    let fill = |part: &str| part.repeat(TemplateLimits::of_strangers().source_bytes / part.len());
    let mut sources: Vec<String> = [
        "{{a}}",
        "{%set a=1%}",
        "{{[]}}",
        "{{{}}}",
        "{%if a%}{%endif%}",
        "{%for a in b%}{%endfor%}",
        "{%macro a(b,c,d)%}{%endmacro%}",
        "{%block a%}{%endblock%}",
        "{{a(b=1,c=2)}}",
        "{{a|b|c|d}}",
        "{{a[1:2:3]}}",
        "{{a+b*c~d}}",
        "{{a if b else c}}",
        "a\n",
        "{#a#}",
        "{%raw%}{%endraw%}",
    ]
    .into_iter()
    .map(fill)
    .collect();
    sources.extend([
        (0..8_000).map(|number| format!("{{{{a{number}}}}}")).collect(),
        format!("{{{{[{}]}}}}", "[],".repeat(300)).repeat(60),
        format!("{}{}", "{%if a%}".repeat(100), "{%endif%}".repeat(100)).repeat(35),
        format!("{}{}", "{%for a in b%}".repeat(100), "{%endfor%}".repeat(100)).repeat(25),
    ]);
    sources
}

fn compile(source: &str) -> Result<ChatTemplate, TemplateError> {
    ChatTemplate::new(source, String::new(), String::new(), TemplateLimits::of_strangers())
}

#[test]
fn a_strangers_template_takes_bounded_memory_and_fuel() {
    let mut most = 0;
    let contents = [("abc ".repeat(16 << 10), true), ("é<|x|>".repeat(100 << 10), false)];
    for (content, with_long) in contents {
        let of_messages = 8 * content.len();
        let messages = [TemplateMessage { role: "user", content, fields: Vec::new() }];
        let render = |source: &str| compile(source)?.render(&messages, true, &["<|x|>".to_owned()]);
        // What is made once for all.
        render("{{ messages[0].content }}").unwrap();
        for source in hostile().into_iter().chain(if with_long { long() } else { Vec::new() }) {
            let given = ALLOCATOR.peak(|| render(&source)).saturating_sub(of_messages);
            assert!(given <= MAX_BYTES, "{given} bytes of at most {MAX_BYTES} beside the messages: {source:.200}");
            most = most.max(given);
        }
    }
    println!("{} KiB beside eight times the messages", most >> 10);
    assert!(most > MAX_BYTES / 3, "it counts");
}
