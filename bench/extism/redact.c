// The work of plugins/examples/redact as a plug-in of Extism: takes a text, gives it back with the word "secret" replaced. No
// configuration is read and no conversation is taken apart, so it has less to do than the hook that it stands beside.
//
// Built by bench/page/hooks.py with the compiler that `make guests` has for C.

#define HOST(name) __attribute__((import_module("extism:host/env"), import_name(name)))

typedef unsigned char u8;
typedef unsigned long long u64;

HOST("input_length") extern u64 input_length(void);
HOST("input_load_u64") extern u64 input_load_u64(u64 at);
HOST("input_load_u8") extern unsigned input_load_u8(u64 at);
HOST("alloc") extern u64 alloc(u64 bytes);
HOST("store_u64") extern void store_u64(u64 at, u64 value);
HOST("store_u8") extern void store_u8(u64 at, unsigned value);
HOST("output_set") extern void output_set(u64 at, u64 bytes);

enum { MOST = 1 << 16 };
static u8 text[MOST], replaced[2 * MOST];

static const u8 word[] = "secret", mark[] = "[redacted]";
enum { WORD = sizeof word - 1, MARK = sizeof mark - 1 };

static int is_word(const u8 *at) {
    for (int i = 0; i < WORD; i++)
        if (at[i] != word[i]) return 0;
    return 1;
}

__attribute__((export_name("redact"))) int redact(void) {
    u64 length = input_length();
    if (length > MOST) return 1;
    u64 at = 0;
    for (; at + 8 <= length; at += 8) *(u64 *)(text + at) = input_load_u64(at);
    for (; at < length; at++) text[at] = (u8)input_load_u8(at);
    u64 made = 0;
    for (at = 0; at < length;) {
        if (at + WORD <= length && is_word(text + at)) {
            for (int i = 0; i < MARK; i++) replaced[made++] = mark[i];
            at += WORD;
        } else {
            replaced[made++] = text[at++];
        }
    }
    u64 out = alloc(made);
    for (at = 0; at + 8 <= made; at += 8) store_u64(out + at, *(u64 *)(replaced + at));
    for (; at < made; at++) store_u8(out + at, replaced[at]);
    output_set(out, made);
    return 0;
}
