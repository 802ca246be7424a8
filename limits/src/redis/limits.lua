#!lua name=souk_limits_1

-- The store of limits in Redis 7.0 or later: each function is one step over the keys of one shard.
--
-- Keys, below the prefix of a shard and of the server's process (`souk:{l17}:<run>:`), all with a time to live:
--   clock             packed: milliseconds since the shard began, when that was last counted, and when the first lease may end
--   s:<subject>       a level, packed: its buckets and its budgets
--   h:<id>            what is held for a request, packed; an id is `<tenant>/<request>`
--   leases            ids by the moment until which they are held
--   r:<id>            a repeat, packed; an id is `<tenant>/<digest>`
--   running           ids of repeats under way, by the moment until which they are
--   ended             ids of ended repeats, by the moment when they ended; beside it `ended_bytes`, with their sum as `sum`
-- KEYS[1] is the clock's. The others are made from it, since which they are is read on the way; all are in its slot.
--
-- Moments are the shard's own: a step back of the server's clock is no time, and a step ahead a minute at most.
-- What the numbers mean is said in src/port.rs and src/memory/, which do the same; a double holds all of them exactly.

local PARTS = 60000
local LEASE_MS = 15000
local IDLE_MS = 600000
local KEPT_FOR_MS = 86400000
-- Longest time between two steps that is counted.
local MAX_STEP_MS = 60000
-- What nobody comes back to is gone after so long: a level that holds nothing, and anything at all, which is longer than
-- a month and a day.
local LEVEL_TTL_MS = 86400000
local TTL_MS = 3456000000
-- Most leases that one step ends. What is left is held until the next.
local MAX_LAPSES = 1000
-- What an ended repeat takes beside its answer, in bytes, more or less.
local ENTRY_BYTES = 512

-- What is packed, and what is said in JSON, is a list, as flat as it can be: names and nested tables would take most of the time.
-- These are the places in them.
-- The clock: the moment, the wall clock when it was last counted, a moment before which no lease ends (NEVER: there is none), and the
-- wall clock when its time to live was last set.
local CLOCK = '<dddd'
local NEVER = 9007199254740992
-- A level has a bucket for requests, for tokens of prompts and for those of answers, in this order, which are three numbers each; a
-- limit below 0 says that there is none. Then the wall clock until which it is kept. Behind that are budgets, each with its field,
-- which is a period and a unit.
local LIMIT, MISSING, AT, BUCKET, KEPT = 1, 2, 3, 3, 10
local TOTAL, VERSION, KNOWN, HELD, TOUCHED, BUDGET, FIRST = 1, 2, 3, 4, 5, 6, 11
-- Amounts, by unit: requests, tokens of prompts, of answers, of training, and of prompts and answers together.
local INPUT, OUTPUT, TRAINING, TOKENS = 2, 3, 4, 5
-- What is held. Fields are in turns with their units. Of each that it took from a bucket there are four: the place of its subject
-- among the subjects, the unit, how much, and the limit.
local SUBJECTS, FIELDS, AMOUNTS, LOST_MS, TAKES, SETTLED, SHADOWED = 1, 2, 3, 4, 5, 6, 7
-- A tree: the fields, and the levels, each with its subject and its limits; the field of a limit is empty for rates. Beside it are
-- its subjects and their keys once it was read.
local T_FIELDS, T_LEVELS, T_SUBJECTS, T_KEYS, T_PREFIX = 1, 2, 3, 4, 5
local L_SUBJECT, L_LIMITS = 1, 2
local UNIT, VALUE, SHADOW, FIELD = 1, 2, 3, 4

local ROOM, REFUSES, UNKNOWN = 0, 1, 2
local TAKEN, REFUSED, TOTALS_UNKNOWN, GATHERING = 0, 1, 2, 3

-- A time to live is set again when it is this much too short or too long, since setting it takes longer than the writing.
local TTL_SLACK_MS = 3600000
-- Most keys that one command is given.
local MOST_KEYS = 500
-- Trees as they were read, by their JSON, of which there are few in turns; they are read again when there are too many.
local MOST_TREES = 4096
local trees, num_trees = {}, 0

-- Looked up once, at the first step: a library that is being loaded does not see them.
local floor, ceil, min, max, call, pack, read_packed

local function look_up()
    floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
    call, pack, read_packed = redis.call, cmsgpack.pack, cmsgpack.unpack
end

-- Begins a step: counts the time that has passed.
local function open(keys)
    if not call then look_up() end
    local time = call('TIME')
    local wall = time[1] * 1000 + floor(time[2] / 1000)
    local clock = call('GET', keys[1])
    local store = { clock = keys[1], prefix = string.sub(keys[1], 1, -6), wall = wall, now = 0, due = NEVER, kept = 0, levels = {}, changed = {} }
    if clock then
        local counted, last, due, kept = struct.unpack(CLOCK, clock)
        store.now, store.due, store.kept = counted + max(0, min(wall - last, MAX_STEP_MS)), due, kept
    end
    return store
end

-- Writes how far the clock has come.
local function save_clock(store)
    local is_old = math.abs(store.wall - store.kept) > TTL_SLACK_MS
    if is_old then store.kept = store.wall end
    local packed = struct.pack(CLOCK, store.now, store.wall, store.due, store.kept)
    if is_old then
        call('SET', store.clock, packed, 'PX', TTL_MS)
    else
        call('SET', store.clock, packed, 'KEEPTTL')
    end
end

local function unpacked(packed)
    return packed and read_packed(packed) or { -1, 0, 0, -1, 0, 0, -1, 0, 0, 0 }
end

-- Reads levels, all at once, those that were not read before: they may have been changed since.
local function read_levels(store, subjects)
    local names, missing = {}, {}
    for _, subject in ipairs(subjects) do
        if not store.levels[subject] then
            missing[#missing + 1], names[#names + 1] = subject, store.prefix .. 's:' .. subject
        end
    end
    if #names == 0 then return end
    local packed = call('MGET', unpack(names))
    for place, subject in ipairs(missing) do store.levels[subject] = unpacked(packed[place]) end
end

local function level_of(store, subject)
    local level = store.levels[subject]
    if not level then
        level = unpacked(call('GET', store.prefix .. 's:' .. subject))
        store.levels[subject] = level
    end
    return level
end

-- Ends a step: writes the levels that it has changed, and the clock.
local function finish(store)
    local wall = store.wall
    for subject in pairs(store.changed) do
        local level, ttl = store.levels[subject], LEVEL_TTL_MS
        for at = FIRST, #level, BUDGET do
            if level[at + HELD] > 0 then ttl = TTL_MS end
        end
        local name, off = store.prefix .. 's:' .. subject, level[KEPT] - wall - ttl
        if off < -TTL_SLACK_MS or off > TTL_SLACK_MS then
            level[KEPT] = wall + ttl
            call('SET', name, pack(level), 'PX', ttl)
        else
            call('SET', name, pack(level), 'KEEPTTL')
        end
    end
    save_clock(store)
end

-- Parts of one limit as parts of another.
local function scaled(parts, to, from, round)
    if from == 0 then return to * PARTS end
    return min(round(parts / from * to), to * PARTS)
end

-- The parts that are missing now in the bucket of a unit, under a limit that may be another than when it was last taken from.
local function missing_of(now, level, unit, value)
    local bucket = (unit - 1) * BUCKET
    local limit, missing, at = level[bucket + LIMIT], level[bucket + MISSING], level[bucket + AT]
    if limit < 0 then limit, missing, at = value, value * PARTS, 0 end
    local passed = now - at
    if passed > PARTS then passed = PARTS end
    if passed > 0 then missing = missing - limit * passed end
    if missing < 0 then missing = 0 end
    if limit ~= value then return scaled(missing, value, limit, ceil) end
    return missing
end

-- Where the budget of a field is in a level, if it is there.
local function find_budget(level, field)
    for at = FIRST, #level, BUDGET do
        if level[at] == field then return at end
    end
end

-- The same; one that is not there is made, and what is idle makes room for it.
local function budget_of(store, level, field)
    local at = find_budget(level, field)
    if not at then
        local last = #level
        at = FIRST
        for from = FIRST, last, BUDGET do
            local idle = store.now - level[from + TOUCHED]
            if idle < IDLE_MS or (level[from + HELD] > 0 and idle < TTL_MS) then
                for part = 0, BUDGET - 1 do level[at + part] = level[from + part] end
                at = at + BUDGET
            end
        end
        for place = last, at, -1 do level[place] = nil end
        level[at] = field
        for part = 1, BUDGET - 1 do level[at + part] = 0 end
    end
    level[at + TOUCHED] = store.now
    return at
end

local function add_tokens(amounts)
    amounts[TOKENS] = amounts[INPUT] + amounts[OUTPUT]
    return amounts
end

local function costs(amounts)
    return amounts[TOKENS] > 0 or amounts[TRAINING] > 0
end

-- Adds to the budgets of all levels of what is held: the amounts of `more` without those of `less`.
local function move(store, holding, less, more)
    local fields = holding[FIELDS]
    for place = 1, #fields, 2 do
        local field, unit = fields[place], fields[place + 1]
        local taken, added = less and less[unit] or 0, more and more[unit] or 0
        if taken > 0 or added > 0 then
            for _, subject in ipairs(holding[SUBJECTS]) do
                local level = level_of(store, subject)
                local at = budget_of(store, level, field) + HELD
                level[at] = max(0, level[at] - taken) + added
                store.changed[subject] = true
            end
        end
    end
end

local function holding_of(store, id)
    local packed = call('GET', store.prefix .. 'h:' .. id)
    return packed and read_packed(packed)
end

local function keep(store, id, holding)
    local leases = store.prefix .. 'leases'
    local until_ms = store.now + (holding[SETTLED] and holding[LOST_MS] or LEASE_MS)
    call('SET', store.prefix .. 'h:' .. id, pack(holding), 'PX', TTL_MS)
    call('ZADD', leases, until_ms, id)
    -- The set is new, or as good as that. Later it is kept for longer as leases end.
    if store.due == NEVER then call('PEXPIRE', leases, TTL_MS) end
    if until_ms < store.due then store.due = until_ms end
end

-- Forgets what is held for some requests.
local function drop(store, ids)
    local leases, names = store.prefix .. 'leases', {}
    for place, id in ipairs(ids) do names[place] = store.prefix .. 'h:' .. id end
    call('DEL', unpack(names))
    call('ZREM', leases, unpack(ids))
    if call('ZCARD', leases) == 0 then store.due = NEVER end
end

-- Lets go of what is held for some requests.
local function let_go(store, ids)
    for first = 1, #ids, MOST_KEYS do
        local some, names = {}, {}
        for place = first, min(first + MOST_KEYS - 1, #ids) do
            some[#some + 1], names[#names + 1] = ids[place], store.prefix .. 'h:' .. ids[place]
        end
        for _, packed in ipairs(call('MGET', unpack(names))) do
            local holding = packed and read_packed(packed)
            if holding then move(store, holding, holding[AMOUNTS], nil) end
        end
        drop(store, some)
    end
end

-- Lets go of what nobody renews.
local function sweep(store)
    local leases = store.prefix .. 'leases'
    let_go(store, call('ZRANGEBYSCORE', leases, '-inf', store.now, 'LIMIT', 0, MAX_LAPSES))
    local first = call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]
    store.due = first and tonumber(first) or NEVER
    call('PEXPIRE', leases, TTL_MS)
end

local function begin_step(keys)
    local store = open(keys)
    if store.now >= store.due then sweep(store) end
    return store
end

-- Adds how one limit stands: its verdict, and of a rate what is left, when it is full and when there is room (-1: never), in
-- milliseconds; of a budget its total, what is held of it and whether the total is known.
local function add_line(lines, verdict, first, second, third)
    local last = #lines
    lines[last + 1], lines[last + 2], lines[last + 3], lines[last + 4] = verdict, first, second, third
end

-- What a rate says.
local function judge_rate(store, level, limit, asked, lines)
    local value = limit[VALUE]
    local missing = missing_of(store.now, level, limit[UNIT], value)
    local verdict, wait = ROOM, 0
    if asked > value then
        verdict, wait = REFUSES, -1
    elseif asked > 0 then
        local lacking = missing - (value - asked) * PARTS
        if lacking > 0 then verdict, wait = REFUSES, ceil(lacking / value) end
    end
    local left, full_in = floor((value * PARTS - missing) / PARTS), missing > 0 and ceil(missing / value) or 0
    add_line(lines, verdict, left, full_in, wait)
    return verdict
end

-- What a budget says.
local function judge_budget(level, limit, asked, lines)
    local at = find_budget(level, limit[FIELD])
    if not at or level[at + KNOWN] == 0 then
        local verdict = asked > 0 and UNKNOWN or ROOM
        add_line(lines, verdict, 0, 0, 0)
        return verdict
    end
    local total, held = level[at + TOTAL], level[at + HELD]
    local verdict = (asked == 0 or total + held + asked <= limit[VALUE]) and ROOM or REFUSES
    add_line(lines, verdict, total, held, 1)
    return verdict
end

-- What all limits of a request say, in order.
local function judge(store, tree, amounts)
    local said = { lines = {}, shadowed = {}, takes = {}, refuses = false, waits = false, has_budget = false }
    local lines, takes = said.lines, said.takes
    for number, level in ipairs(tree[T_LEVELS]) do
        local known = store.levels[level[L_SUBJECT]]
        for _, limit in ipairs(level[L_LIMITS]) do
            local asked, is_shadow, is_budget = amounts[limit[UNIT]], limit[SHADOW] == 1, limit[FIELD] ~= ''
            local verdict
            if is_budget then
                verdict = judge_budget(known, limit, asked, lines)
                if asked > 0 and not is_shadow then said.has_budget = true end
            else
                verdict = judge_rate(store, known, limit, asked, lines)
            end
            if verdict == REFUSES and is_shadow then
                local last = #lines
                add_line(said.shadowed, last / 4 - 1, lines[last - 2], lines[last - 1], lines[last])
            elseif verdict == REFUSES then
                said.refuses = true
            elseif verdict == UNKNOWN then
                said.waits = said.waits or not is_shadow
            elseif not is_budget and asked > 0 then
                add_line(takes, number, limit[UNIT], asked, limit[VALUE])
            end
        end
    end
    return said
end

-- How limits stand after what was taken, in the place of what they said before it; verdicts stay.
local function stand_after(store, tree, amounts, lines)
    local at = 1
    for _, level in ipairs(tree[T_LEVELS]) do
        local known = store.levels[level[L_SUBJECT]]
        for _, limit in ipairs(level[L_LIMITS]) do
            if limit[FIELD] == '' then
                local unit, value = limit[UNIT], limit[VALUE]
                if amounts[unit] > 0 then
                    local missing = missing_of(store.now, known, unit, value)
                    lines[at + 1] = floor((value * PARTS - missing) / PARTS)
                    lines[at + 2] = missing > 0 and ceil(missing / value) or 0
                end
                lines[at + 3] = 0
            elseif lines[at + 3] == 1 then
                lines[at + 2] = lines[at + 2] + amounts[limit[UNIT]]
            end
            at = at + 4
        end
    end
end

-- Takes from the buckets and holds of the budgets.
local function take(store, id, tree, amounts, lost_ms, said)
    local takes, subjects = said.takes, tree[T_SUBJECTS]
    for place = 1, #takes, 4 do
        local subject, unit, amount, value = subjects[takes[place]], takes[place + 1], takes[place + 2], takes[place + 3]
        local level, bucket = store.levels[subject], (unit - 1) * BUCKET
        level[bucket + MISSING] = missing_of(store.now, level, unit, value) + amount * PARTS
        level[bucket + LIMIT], level[bucket + AT] = value, max(store.now, level[bucket + AT])
        store.changed[subject] = true
    end
    local holding = { subjects, tree[T_FIELDS], amounts, lost_ms, takes, false, said.shadowed }
    move(store, holding, nil, amounts)
    keep(store, id, holding)
    stand_after(store, tree, amounts, said.lines)
end

-- A tree from its JSON, with its subjects and their keys below a prefix.
local function tree_of(prefix, json)
    local tree = trees[json]
    if not tree then
        if num_trees >= MOST_TREES then trees, num_trees = {}, 0 end
        tree = cjson.decode(json)
        trees[json], num_trees = tree, num_trees + 1
        tree[T_SUBJECTS] = {}
        for place, level in ipairs(tree[T_LEVELS]) do tree[T_SUBJECTS][place] = level[L_SUBJECT] end
    end
    if tree[T_PREFIX] ~= prefix then
        tree[T_PREFIX], tree[T_KEYS] = prefix, {}
        for place, subject in ipairs(tree[T_SUBJECTS]) do tree[T_KEYS][place] = prefix .. 's:' .. subject end
    end
    return tree
end

-- Reads what is held for a request, and the levels of its tree, all at once.
local function read(store, id, tree)
    local packed = call('MGET', store.prefix .. 'h:' .. id, unpack(tree[T_KEYS]))
    for place, subject in ipairs(tree[T_SUBJECTS]) do
        -- One that was read before may have been changed since.
        store.levels[subject] = store.levels[subject] or unpacked(packed[place + 1])
    end
    return packed[1] and read_packed(packed[1])
end

-- ARGV: the id, four amounts, how long what was used is held once it is settled, and the tree as JSON. Returns what came of it, a
-- wait in milliseconds, four numbers for each limit, and four for each that was shadowed.
local function reserve(keys, args)
    local store = begin_step(keys)
    local id, amounts = args[1], {}
    for unit = 1, TRAINING do amounts[unit] = tonumber(args[unit + 1]) end
    add_tokens(amounts)
    local tree = tree_of(store.prefix, args[7])
    local known = read(store, id, tree)
    local said = judge(store, tree, amounts)
    local status, wait = TAKEN, 0
    if known then
        said.shadowed = known[SHADOWED]
        for at = 1, #said.lines, 4 do said.lines[at] = ROOM end
    elseif said.has_budget and store.now < LEASE_MS then
        status, wait = GATHERING, LEASE_MS - store.now
    elseif said.waits then
        status = TOTALS_UNKNOWN
    elseif said.refuses then
        status = REFUSED
    else
        take(store, id, tree, amounts, tonumber(args[6]), said)
    end
    finish(store)
    return { status, wait, said.lines, said.shadowed }
end

-- ARGV: the id, and four amounts that were used.
local function settle(keys, args)
    local store = begin_step(keys)
    local id = args[1]
    local holding = holding_of(store, id)
    if holding and not holding[SETTLED] then
        read_levels(store, holding[SUBJECTS])
        local reserved, used = holding[AMOUNTS], {}
        for unit = 1, TRAINING do used[unit] = min(tonumber(args[unit + 1]), reserved[unit]) end
        add_tokens(used)
        local takes = holding[TAKES]
        for place = 1, #takes, 4 do
            local subject, unit, amount, value = holding[SUBJECTS][takes[place]], takes[place + 1], takes[place + 2], takes[place + 3]
            local level, bucket = store.levels[subject], (unit - 1) * BUCKET
            local limit, back = level[bucket + LIMIT], (amount - used[unit]) * PARTS
            if limit >= 0 and back > 0 then
                if limit ~= value then back = scaled(back, limit, value, floor) end
                level[bucket + MISSING] = max(0, level[bucket + MISSING] - back)
                store.changed[subject] = true
            end
        end
        move(store, holding, reserved, used)
        holding[AMOUNTS], holding[TAKES], holding[SETTLED] = used, {}, true
        if costs(used) then keep(store, id, holding) else drop(store, { id }) end
    end
    finish(store)
    return 0
end

-- ARGV[1]: totals and ids of requests whose rows they count, as JSON. What comes before a lease has passed since the shard
-- began may have been on its way since before that.
local function count(keys, args)
    local store = begin_step(keys)
    local counted = cjson.decode(args[1])
    local was_read = #counted.written == 0 and store.now >= LEASE_MS
    for _, total in ipairs(counted.totals) do
        local level = level_of(store, total.subject)
        local at = budget_of(store, level, total.field)
        if total.version >= level[at + VERSION] then
            level[at + TOTAL], level[at + VERSION] = total.amount, total.version
        end
        if was_read then level[at + KNOWN] = 1 end
        store.changed[total.subject] = true
    end
    let_go(store, counted.written)
    finish(store)
    return 0
end

-- ARGV: ids. Returns the places, from 0, of those that nothing is held for.
local function renew(keys, args)
    local store = begin_step(keys)
    local leases, until_ms = store.prefix .. 'leases', store.now + LEASE_MS
    local unknown = {}
    for place, id in ipairs(args) do
        if call('ZSCORE', leases, id) then
            -- What is settled is held for longer, and stays so.
            call('ZADD', leases, 'XX', 'GT', until_ms, id)
        else
            unknown[#unknown + 1] = place - 1
        end
    end
    finish(store)
    return unknown
end

-- ARGV[1]: what is held, as JSON.
local function restore(keys, args)
    local store = begin_step(keys)
    for _, held in ipairs(cjson.decode(args[1])) do
        local amounts = add_tokens(held.amounts)
        if not holding_of(store, held.id) and (costs(amounts) or not held.settled) then
            local holding = { held.subjects, held.fields, amounts, held.lost_ms, {}, held.settled, {} }
            move(store, holding, nil, amounts)
            keep(store, held.id, holding)
        end
    end
    finish(store)
    return 0
end

-- Begins the shard if it is new.
local function touch(keys)
    finish(begin_step(keys))
    return 0
end

-- Forgets the repeat that ended first.
local function forget_oldest(prefix)
    local id = redis.call('ZPOPMIN', prefix .. 'ended')[1]
    if not id then
        redis.call('DEL', prefix .. 'ended_bytes')
        return
    end
    local bytes = tonumber(redis.call('HGET', prefix .. 'ended_bytes', id) or 0)
    redis.call('HDEL', prefix .. 'ended_bytes', id)
    redis.call('HINCRBY', prefix .. 'ended_bytes', 'sum', -bytes)
    redis.call('DEL', prefix .. 'r:' .. id)
end

-- Begins a step on repeats: forgets what nobody renews, and what ended long ago.
local function open_repeats(keys)
    local store = open(keys)
    save_clock(store)
    local running, now = store.prefix .. 'running', string.format('%.0f', store.now)
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', running, '-inf', now, 'LIMIT', 0, MAX_LAPSES)) do
        redis.call('DEL', store.prefix .. 'r:' .. id)
        redis.call('ZREM', running, id)
    end
    local ended = redis.call('ZCOUNT', store.prefix .. 'ended', '-inf', string.format('%.0f', store.now - KEPT_FOR_MS))
    for _ = 1, ended do
        forget_oldest(store.prefix)
    end
    return store
end

local function repeat_of(store, id)
    local packed = redis.call('GET', store.prefix .. 'r:' .. id)
    return packed and cmsgpack.unpack(packed)
end

local function run_until(store, id, flag)
    local running = store.prefix .. 'running'
    redis.call('ZADD', running, flag, string.format('%.0f', store.now + LEASE_MS), id)
    redis.call('PEXPIRE', running, TTL_MS)
end

-- ARGV: the id, the body's fingerprint, the request. Returns a word, and of what is known its request and answer.
local function begin(keys, args)
    local store = open_repeats(keys)
    local id, fingerprint, request = args[1], args[2], args[3]
    local known = repeat_of(store, id)
    if not known then
        local packed = cmsgpack.pack({ fingerprint = fingerprint, request = request })
        redis.call('SET', store.prefix .. 'r:' .. id, packed, 'PX', TTL_MS)
        run_until(store, id, 'GT')
        return { 'first' }
    end
    if known.fingerprint ~= fingerprint then return { 'mismatch' } end
    if known.ended and known.meta then return { 'ended', known.request, known.meta, known.body } end
    if known.ended then return { 'ended', known.request } end
    if known.request == request then return { 'first' } end
    return { 'running', known.request }
end

-- ARGV: ids and requests in turns.
local function renew_repeats(keys, args)
    local store = open_repeats(keys)
    for place = 1, #args, 2 do
        local known = repeat_of(store, args[place])
        if known and not known.ended and known.request == args[place + 1] then run_until(store, args[place], 'XX') end
    end
    return 0
end

-- ARGV: the id, the request, most bytes that ended ones of this shard may take, and the answer in two parts if it is kept.
local function end_repeat(keys, args)
    local store = open_repeats(keys)
    local id, known = args[1], repeat_of(store, args[1])
    if not known or known.ended or known.request ~= args[2] then return 0 end
    known.ended, known.meta, known.body = true, args[4], args[5]
    local bytes = ENTRY_BYTES + string.len(args[4] or '') + string.len(args[5] or '')
    redis.call('SET', store.prefix .. 'r:' .. id, cmsgpack.pack(known), 'PX', KEPT_FOR_MS)
    redis.call('ZREM', store.prefix .. 'running', id)
    redis.call('ZADD', store.prefix .. 'ended', string.format('%.0f', store.now), id)
    redis.call('HSET', store.prefix .. 'ended_bytes', id, bytes)
    local sum = redis.call('HINCRBY', store.prefix .. 'ended_bytes', 'sum', bytes)
    redis.call('PEXPIRE', store.prefix .. 'ended', TTL_MS)
    redis.call('PEXPIRE', store.prefix .. 'ended_bytes', TTL_MS)
    while sum > tonumber(args[3]) do
        forget_oldest(store.prefix)
        sum = tonumber(redis.call('HGET', store.prefix .. 'ended_bytes', 'sum') or 0)
    end
    return 0
end

-- ARGV: the id, the request.
local function forget_repeat(keys, args)
    local store = open_repeats(keys)
    local known = repeat_of(store, args[1])
    if known and not known.ended and known.request == args[2] then
        redis.call('DEL', store.prefix .. 'r:' .. args[1])
        redis.call('ZREM', store.prefix .. 'running', args[1])
    end
    return 0
end

-- Steps that let go of something run in a server that has no memory left, too.
local function register(name, callback, flags)
    redis.register_function({ function_name = 'souk_limits_1_' .. name, callback = callback, flags = flags })
end

register('touch', touch, {})
register('reserve', reserve, {})
register('settle', settle, { 'allow-oom' })
register('count', count, { 'allow-oom' })
register('renew', renew, { 'allow-oom' })
register('restore', restore, { 'allow-oom' })
register('begin', begin, {})
register('renew_repeats', renew_repeats, { 'allow-oom' })
register('end', end_repeat, {})
register('forget', forget_repeat, { 'allow-oom' })
