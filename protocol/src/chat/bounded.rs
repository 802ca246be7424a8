//! Sums and products of lists under a bound. The engine joins lists without copying them and at times unrolls what it
//! has joined, neither of which costs fuel: a list that is added to itself in a loop would fill the memory. So the
//! source of a template is rewritten to look at the result of every `+` and `*`.
//!
//! What is put into a namespace is looked at too: it outlives a loop, so it could be nested without end, or hold
//! itself, and the engine follows values as deep as they are, on the thread's stack.

use minijinja::machinery::{Span, Token, ast, parse, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// The filter that looks at a result; no name that a template has by chance.
pub(super) const FILTER: &str = "souk_bounded";
/// Longest list that a sum or product may be. A conversation has 2,048 messages at most.
const MAX_ITEMS: usize = 20_000;
/// The filter for what is put into a namespace.
pub(super) const KEPT_FILTER: &str = "souk_kept";
/// Deepest that lists and maps in a namespace may be nested.
const MAX_DEPTH: usize = 32;
/// Most words and signs of one tag: the parser goes a level deeper for each sign in front of a value, on the thread's
/// stack.
const MAX_TOKENS: usize = 1024;
/// Most `elif` of a template, each of which is a level too.
const MAX_BRANCHES: usize = 256;
/// Of sums in a row, as in `a + b + c`, every so many are looked at, and the last one. Each adds a level of nesting to
/// the source, and the parser allows 150.
const EVERY: usize = 128;

/// The source with every sum and product in the filter's hands. What it writes stays the same.
///
/// # Errors
/// The source does not parse.
pub(super) fn bound_lists(source: &str, syntax: SyntaxConfig) -> Result<String, Error> {
    check_tags(source, &syntax)?;
    let mut found = Found { source, inserts: Vec::new(), refused: false };
    found.statement(&parse(source, "chat_template", syntax)?);
    if found.refused {
        let message = "attributes of a namespace are set by `{% set name.attribute = value %}` alone";
        return Err(Error::new(ErrorKind::SyntaxError, message));
    }
    // At one place what ends comes before what begins, and of what begins there the outer parenthesis is the same.
    found.inserts.sort_by_key(|(at, insert)| (*at, *insert == Insert::Begin));
    let mut out = String::with_capacity(source.len() + found.inserts.len() * (FILTER.len() + 2));
    let mut copied = 0;
    for (at, insert) in found.inserts {
        out.push_str(&source[copied..at]);
        copied = at;
        match insert {
            Insert::End(filter) => out.extend([")|", filter]),
            Insert::Begin => out.push('('),
        }
    }
    out.push_str(&source[copied..]);
    Ok(out)
}

fn check_tags(source: &str, syntax: &SyntaxConfig) -> Result<(), Error> {
    let (mut num_tokens, mut num_branches) = (0, 0);
    for token in tokenize(source, false, syntax.clone()) {
        match token?.0 {
            Token::TemplateData(_) | Token::BlockStart | Token::VariableStart => num_tokens = 0,
            Token::Ident("elif") => num_branches += 1,
            _ => num_tokens += 1,
        }
        if num_branches > MAX_BRANCHES {
            let message = format!("it has more than {MAX_BRANCHES} `elif`");
            return Err(Error::new(ErrorKind::SyntaxError, message));
        }
        if num_tokens > MAX_TOKENS {
            let message = format!("a tag has more than {MAX_TOKENS} words and signs");
            return Err(Error::new(ErrorKind::SyntaxError, message));
        }
    }
    Ok(())
}

/// The filter: lists pay for their length, and may not be longer than the bound.
pub(super) fn bounded(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        let len = value.len().unwrap_or(0);
        if len > MAX_ITEMS {
            let message = format!("a list of {len} items is made; at most {MAX_ITEMS} are allowed");
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
        state.consume_fuel(len as u64 / 8)?;
    }
    Ok(value)
}

/// The filter: the value, unrolled, if it is of a depth that can be followed and holds no namespace.
pub(super) fn kept(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    unrolled(state, value, MAX_DEPTH)
}

fn unrolled(state: &State<'_, '_>, value: Value, depth: usize) -> Result<Value, Error> {
    let refuse = |reason: String| Err(Error::new(ErrorKind::InvalidOperation, reason));
    if value.as_object().is_some_and(|object| object.type_name().ends_with("Namespace")) {
        return refuse("a namespace cannot be put into a namespace".to_owned());
    }
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        return Ok(value);
    }
    if depth == 0 {
        return refuse(format!("what is put into a namespace may be nested {MAX_DEPTH} times"));
    }
    let is_map = value.kind() == ValueKind::Map;
    let mut items = Vec::new();
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        let of_map = if is_map { Some(value.get_item(&item)?) } else { None };
        for part in std::iter::once(item).chain(of_map) {
            items.push(unrolled(state, part, depth - 1)?);
        }
    }
    Ok(if is_map { value } else { Value::from(items) })
}

/// What the source gets inserted somewhere: the begin of parentheses, or their end with a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Insert {
    Begin,
    End(&'static str),
}

struct Found<'a> {
    source: &'a str,
    inserts: Vec<(usize, Insert)>,
    /// Whether something is put into a namespace where the filter cannot stand.
    refused: bool,
}

impl Found<'_> {
    fn wrap(&mut self, span: Span, filter: &'static str) {
        self.inserts.push((span.start_offset as usize, Insert::Begin));
        self.inserts.push((span.end_offset as usize, Insert::End(filter)));
    }

    /// Wraps the value of the assignment at `whole`, which is all behind the `=` that follows the target.
    fn keep(&mut self, target: Span, whole: Span) {
        let (begin, end) = (target.end_offset as usize, whole.end_offset as usize);
        match self.source.get(begin..end).and_then(|rest| rest.find('=')) {
            Some(at) => {
                self.inserts.push((begin + at + 1, Insert::Begin));
                self.inserts.push((end, Insert::End(KEPT_FILTER)));
            }
            None => self.refused = true,
        }
    }

    fn statements(&mut self, statements: &[ast::Stmt<'_>]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    fn statement(&mut self, statement: &ast::Stmt<'_>) {
        match statement {
            ast::Stmt::Template(it) => self.statements(&it.children),
            ast::Stmt::EmitExpr(it) => self.expression(&it.expr),
            ast::Stmt::ForLoop(it) => {
                self.refused |= has_attribute(&it.target);
                self.expression(&it.iter);
                it.filter_expr.iter().for_each(|filter| self.expression(filter));
                self.statements(&it.body);
                self.statements(&it.else_body);
            }
            ast::Stmt::IfCond(it) => {
                self.expression(&it.expr);
                self.statements(&it.true_body);
                self.statements(&it.false_body);
            }
            ast::Stmt::WithBlock(it) => {
                self.refused |= it.assignments.iter().any(|(target, _)| has_attribute(target));
                it.assignments.iter().for_each(|(_, value)| self.expression(value));
                self.statements(&it.body);
            }
            ast::Stmt::Set(it) => {
                self.expression(&it.expr);
                if has_attribute(&it.target) {
                    self.keep(it.target.span(), it.span());
                }
            }
            ast::Stmt::SetBlock(it) => {
                self.refused |= it.filter.is_some() && has_attribute(&it.target);
                it.filter.iter().for_each(|filter| self.expression(filter));
                self.statements(&it.body);
            }
            ast::Stmt::AutoEscape(it) => {
                self.expression(&it.enabled);
                self.statements(&it.body);
            }
            ast::Stmt::FilterBlock(it) => {
                self.expression(&it.filter);
                self.statements(&it.body);
            }
            ast::Stmt::Block(it) => self.statements(&it.body),
            ast::Stmt::Macro(it) => self.definition(it),
            ast::Stmt::CallBlock(it) => {
                self.call(&it.call);
                self.definition(&it.macro_decl);
            }
            ast::Stmt::Do(it) => self.call(&it.call),
            ast::Stmt::Import(it) => self.expression(&it.expr),
            ast::Stmt::FromImport(it) => self.expression(&it.expr),
            ast::Stmt::Extends(it) => self.expression(&it.name),
            ast::Stmt::Include(it) => self.expression(&it.name),
            ast::Stmt::EmitRaw(_) | ast::Stmt::Continue(_) | ast::Stmt::Break(_) => {}
        }
    }

    fn definition(&mut self, it: &ast::Macro<'_>) {
        it.defaults.iter().for_each(|value| self.expression(value));
        self.statements(&it.body);
    }

    fn call(&mut self, it: &ast::Call<'_>) {
        self.expression(&it.expr);
        self.arguments(&it.args);
    }

    fn arguments(&mut self, arguments: &[ast::CallArg<'_>]) {
        for argument in arguments {
            let (ast::CallArg::Pos(value)
            | ast::CallArg::Kwarg(_, value)
            | ast::CallArg::PosSplat(value)
            | ast::CallArg::KwargSplat(value)) = argument;
            self.expression(value);
        }
    }

    fn expression(&mut self, expression: &ast::Expr<'_>) {
        match expression {
            ast::Expr::Var(_) | ast::Expr::Const(_) => {}
            ast::Expr::BinOp(_) => self.operations(expression),
            ast::Expr::Slice(it) => {
                self.expression(&it.expr);
                [&it.start, &it.stop, &it.step].into_iter().flatten().for_each(|part| self.expression(part));
            }
            ast::Expr::UnaryOp(it) => self.expression(&it.expr),
            ast::Expr::Compare(it) => {
                self.expression(&it.expr);
                it.ops.iter().for_each(|op| self.expression(&op.expr));
            }
            ast::Expr::IfExpr(it) => {
                [&it.test_expr, &it.true_expr].into_iter().for_each(|part| self.expression(part));
                it.false_expr.iter().for_each(|part| self.expression(part));
            }
            ast::Expr::Filter(it) => {
                it.expr.iter().for_each(|value| self.expression(value));
                self.arguments(&it.args);
            }
            ast::Expr::Test(it) => {
                self.expression(&it.expr);
                self.arguments(&it.args);
            }
            ast::Expr::GetAttr(it) => self.expression(&it.expr),
            ast::Expr::GetItem(it) => {
                self.expression(&it.expr);
                self.expression(&it.subscript_expr);
            }
            ast::Expr::Call(it) => self.call(it),
            ast::Expr::List(it) => it.items.iter().for_each(|item| self.expression(item)),
            ast::Expr::Tuple(it) => it.items.iter().for_each(|item| self.expression(item)),
            ast::Expr::Map(it) => it.keys.iter().chain(&it.values).for_each(|item| self.expression(item)),
        }
    }

    /// A chain of operations, which leans to the left and may be long.
    fn operations(&mut self, mut expression: &ast::Expr<'_>) {
        let mut num_sums = 0;
        while let ast::Expr::BinOp(it) = expression {
            match it.op {
                ast::BinOpKind::Mul => self.wrap(it.span(), FILTER),
                ast::BinOpKind::Add => {
                    if num_sums % EVERY == 0 {
                        self.wrap(it.span(), FILTER);
                    }
                    num_sums += 1;
                }
                _ => {}
            }
            self.expression(&it.right);
            expression = &it.left;
        }
        self.expression(expression);
    }
}

/// Whether the target of an assignment is, or has among its parts, an attribute.
fn has_attribute(target: &ast::Expr<'_>) -> bool {
    match target {
        ast::Expr::Var(_) => false,
        ast::Expr::Tuple(it) => it.items.iter().any(has_attribute),
        ast::Expr::List(it) => it.items.iter().any(has_attribute),
        _ => true,
    }
}
