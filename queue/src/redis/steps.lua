-- What ends an attempt.

local function live_record(pool, job, attempt)
    local record = record_of(pool, job)
    return record and record[R_PHASE] == RUNNING and record[R_ATTEMPT] == attempt and record
end

-- ARGV: job, attempt and tokens in turns. Returns the places, from 0, of those whose lease is lost.
local function renew(keys, args)
    local pool = begin(keys, args)
    local lost = {}
    for place = 2, #args, 3 do
        local job = args[place]
        local record = live_record(pool, job, tonumber(args[place + 1]))
        if record then
            local before = record[R_OUTPUT]
            charge_output(pool, record, tonumber(args[place + 2]))
            if record[R_OUTPUT] ~= before then save(pool, job, record) end
            falls_due(pool, job, pool.now + pool.config[C_LEASE])
        else
            lost[#lost + 1] = (place - 2) / 3
        end
    end
    finish_step(pool)
    return lost
end

-- ARGV: job, attempt, how: `over` with outcome and four counts, `retry` with a reason, `give_back`. Returns 1, or 0 where the
-- lease is lost.
local function settle(keys, args)
    local pool = begin(keys, args)
    local job, how = args[2], args[4]
    local record = live_record(pool, job, tonumber(args[3]))
    if record then
        if how == 'over' then
            charge_output(pool, record, tonumber(args[8]))
            stop_running(pool, job, record)
            local counts = { tonumber(args[6]), tonumber(args[7]), tonumber(args[8]), tonumber(args[9]) }
            finish(pool, job, record, { args[5], counts[1], counts[2], counts[3], counts[4], '', '' })
        else
            end_attempt(pool, job, record, how == 'retry' and args[5] or nil)
        end
    end
    finish_step(pool)
    return record and 1 or 0
end

-- Keeps what the client already has for the next delivery. Never fewer than before: an older message may come late.
local function hand_in(pool, job, record, num, tokens)
    if num >= record[R_RESUMED] then
        record[R_RESUMED] = num
        save(pool, job, record)
        call('SET', pool.prefix .. 'r:' .. job, tokens, 'PX', TTL_MS)
    end
end

-- ARGV: job, number of tokens, tokens. Returns 1 where the next delivery has them.
local function resume(keys, args)
    local pool = begin(keys, args)
    local record = record_of(pool, args[2])
    local waits = record and record[R_PHASE] == QUEUED
    if waits then hand_in(pool, args[2], record, tonumber(args[3]), args[4]) end
    finish_step(pool)
    return waits and 1 or 0
end

-- ARGV: job, attempt, number of tokens, tokens. Returns 1 where the job waits again, or is settled.
local function take_back(keys, args)
    local pool = begin(keys, args)
    local job, attempt, num = args[2], tonumber(args[3]), tonumber(args[4])
    local record = record_of(pool, job)
    local is_last = record and attempt > 0 and record[R_ATTEMPT] == attempt and record[R_PHASE] ~= OVER
    if is_last then
        hand_in(pool, job, record, num, args[5])
        if record[R_PHASE] == RUNNING then
            local node = record[R_NODE]
            post(pool, 'c:' .. node, { job, attempt })
            local has_retired = call('ZSCORE', pool.prefix .. 'retired', node)
            end_attempt(pool, job, record, not has_retired and 'its gateway could read no more of it' or nil)
        end
    end
    finish_step(pool)
    return is_last and 1 or 0
end

-- Ends a job that waits and is no longer wanted.
local function drop_waiting(pool, job, record)
    dequeue(pool, job, record)
    finish_unsaid(pool, job, record, 'caller_left', 'shutting_down')
end

-- ARGV: job. Returns where it stood.
local function cancel(keys, args)
    local pool = begin(keys, args)
    local job = args[2]
    local record = record_of(pool, job)
    local phase = record and record[R_PHASE] or OVER
    if phase == QUEUED then
        drop_waiting(pool, job, record)
    elseif phase == RUNNING and not record[R_CANCELLED] then
        record[R_CANCELLED] = true
        save(pool, job, record)
        post(pool, 'c:' .. record[R_NODE], { job, record[R_ATTEMPT] })
    end
    finish_step(pool)
    return STATES[phase]
end

-- What is in a mailbox, number and note, but for what is too old. Notes stay there until their reader says that it has them, so
-- that none is lost with an answer that does not arrive.
local function read_notes(pool, box, had)
    local name, drop, notes = pool.prefix .. box, 0, {}
    local all = call('LRANGE', name, 0, 2 * MOST_AT_ONCE - 1)
    for _, packed in ipairs(all) do
        local number, posted, note = unpack(read_packed(packed))
        if number > had and pool.now - posted <= pool.config[C_REMEMBER] then
            notes[#notes + 1] = { string.format('%.0f', number), note }
        elseif #notes == 0 then
            drop = drop + 1
        end
    end
    if drop > 0 then call('LTRIM', name, drop, -1) end
    return notes
end

-- ARGV: node, the number of the last that it has. Finds jobs and attempts.
local function look_cancelled(keys, args)
    local pool = begin(keys, args)
    return looked(pool, -1, read_notes(pool, 'c:' .. args[2], tonumber(args[3])))
end

-- ARGV: gateway, the number of the last that it has. Finds jobs, what happened to them, and of those that are settled how.
local function look_notices(keys, args)
    local pool = begin(keys, args)
    local notices = read_notes(pool, 'n:' .. args[2], tonumber(args[3]))
    return looked(pool, next_change(pool), notices)
end

-- Nodes.

local function forget_order(pool, number, text)
    local prefix, kind = pool.prefix, string.sub(text, 1, 1)
    local about = call('HGET', prefix .. 'about', number)
    if about then
        call('HDEL', prefix .. (kind == 't' and 'down' or 'drains'), about)
        call('HDEL', prefix .. 'about', number)
    end
    call('ZREMRANGEBYSCORE', prefix .. 'orders', number, number)
end

-- ARGV: node, what it says. Returns the number of the newest order.
local function heartbeat(keys, args)
    local pool = begin(keys, args)
    local prefix, node = pool.prefix, args[2]
    local lapses = pool.now + pool.config[C_HEARTBEAT]
    call('ZADD', prefix .. 'nodes', lapses, node)
    pool.state[S_DUE] = min(pool.state[S_DUE], lapses)
    call('HSET', prefix .. 'status', node, args[3])
    call('ZREM', prefix .. 'lost', '+' .. node)
    call('ZREM', prefix .. 'retired', node)
    finish_step(pool)
    return pool.state[S_ORDER]
end

-- ARGV: node.
local function retire(keys, args)
    local pool = begin(keys, args)
    local prefix, node = pool.prefix, args[2]
    call('ZREM', prefix .. 'nodes', node)
    call('HDEL', prefix .. 'status', node)
    call('ZADD', prefix .. 'retired', pool.now, node)
    local order = call('HGET', prefix .. 'drains', node)
    if order then
        forget_order(pool, order, 'd')
    end
    lose_lane(pool, node)
    finish_step(pool)
    return 0
end

-- Returns what each live node says, and how many wait in its lane.
local function lanes(keys, args)
    local pool = begin(keys, args)
    local said = {}
    for _, node in ipairs(call('ZRANGEBYSCORE', pool.prefix .. 'nodes', '(' .. pool.now, '+inf')) do
        said[#said + 1] = { call('HGET', pool.prefix .. 'status', node) or '', call('ZCARD', pool.prefix .. 'w:+' .. node) }
    end
    finish_step(pool)
    return said
end

-- Orders.

local function settle_taken_down(pool)
    for _, lane in ipairs(call('ZRANGE', pool.prefix .. 'lanes', 0, -1)) do
        for _, job in ipairs(call('ZRANGE', pool.prefix .. 'w:' .. lane, 0, -1)) do
            local record = record_of(pool, job)
            if record and is_taken_down(pool, record) then
                dequeue(pool, job, record)
                finish_unsaid(pool, job, record, 'taken_down', 'taken_down')
            end
        end
    end
end

-- ARGV: kind (t, p or d), the version or node it is about, the order as JSON.
local function order(keys, args)
    local pool = begin(keys, args)
    local prefix, state, kind, about, text = pool.prefix, pool.state, args[2], args[3], args[4]
    local stands
    if kind == 't' then stands = call('HEXISTS', prefix .. 'down', about) == 1 end
    if kind == 'd' then stands = call('HEXISTS', prefix .. 'drains', about) == 1 end
    local pinned = state[S_PINNED]
    if kind == 'p' and pinned > 0 then
        local before = call('ZRANGEBYSCORE', prefix .. 'orders', pinned, pinned)[1]
        stands = before and string.match(before, '^p%d+ (.*)$') == text
        if not stands then call('ZREMRANGEBYSCORE', prefix .. 'orders', pinned, pinned) end
    end
    if not stands then
        state[S_ORDER] = state[S_ORDER] + 1
        local number = string.format('%.0f', state[S_ORDER])
        call('ZADD', prefix .. 'orders', number, kind .. number .. ' ' .. text)
        if kind == 'p' then
            state[S_PINNED] = state[S_ORDER]
        else
            call('HSET', prefix .. (kind == 't' and 'down' or 'drains'), about, number)
            call('HSET', prefix .. 'about', number, about)
        end
        if call('ZCARD', prefix .. 'orders') > ORDERS_KEPT then
            local oldest = call('ZRANGE', prefix .. 'orders', 0, 0, 'WITHSCORES')
            forget_order(pool, oldest[2], oldest[1])
        end
        if kind == 't' then settle_taken_down(pool) end
        ring(pool, 'orders')
    end
    finish_step(pool)
    return 0
end

-- ARGV: a number. Finds orders with a higher one: the number and the order as JSON.
local function look_orders(keys, args)
    local pool = begin(keys, args)
    local found = {}
    for _, text in ipairs(call('ZRANGEBYSCORE', pool.prefix .. 'orders', '(' .. args[2], '+inf')) do
        local number, order = string.match(text, '^%a(%d+) (.*)$')
        found[#found + 1] = { number, order }
    end
    return looked(pool, -1, found)
end

-- Dead letters and figures.

-- ARGV: a number. Returns letters with a higher one, at most 50: number, deliveries, reason, the lane, the gateway's text, and
-- body and tokens.
local function dead_letters(keys, args)
    local pool = begin(keys, args)
    local letters = {}
    local some = call('ZRANGEBYSCORE', pool.prefix .. 'dead', '(' .. args[2], '+inf', 'WITHSCORES', 'LIMIT', 0, 50)
    for place = 1, #some, 2 do
        local packed = call('GET', pool.prefix .. 'd:' .. some[place])
        if packed then
            local record, body, resumed, deliveries, reason = unpack(read_packed(packed))
            letters[#letters + 1] = { some[place + 1], deliveries, reason, record[R_LANE], body or '', resumed or '' }
        else
            letters[#letters + 1] = { some[place + 1], 0, '', '', '', '' }
        end
    end
    finish_step(pool)
    return letters
end

-- ARGV: job. Returns 1, or 0 where it is no dead letter.
local function replay(keys, args)
    local pool = begin(keys, args)
    local prefix, job = pool.prefix, args[2]
    local packed = call('GET', prefix .. 'd:' .. job)
    local is_dead = packed and call('ZREM', prefix .. 'dead', job) == 1
    if is_dead then
        call('DEL', prefix .. 'd:' .. job)
        local record, body, resumed = unpack(read_packed(packed))
        local known = record_of(pool, job)
        -- Attempts go on, so that those of the first life stay fenced off.
        if known then record[R_ATTEMPT] = known[R_ATTEMPT] end
        record[R_DEADLINE], record[R_DELIVERIES], record[R_SETTLED], record[R_HAS_ACCOUNT] = false, 0, true, false
        call('SET', prefix .. 'b:' .. job, body, 'PX', TTL_MS)
        if resumed then call('SET', prefix .. 'r:' .. job, resumed, 'PX', TTL_MS) end
        call('ZREM', prefix .. 'over', job)
        enqueue(pool, job, record)
    end
    finish_step(pool)
    return is_dead and 1 or 0
end

-- Returns how many wait, run and are dead, and of each lane its name, how many wait, how long the oldest has or -1, and whether
-- its node lives.
local function stats(keys, args)
    local pool = begin(keys, args)
    local prefix, seen, said = pool.prefix, {}, {}
    local function add(lane, oldest)
        if seen[lane] then return end
        seen[lane] = true
        local live = lane ~= '-' and is_live(pool, string.sub(lane, 2))
        said[#said + 1] = { lane, call('ZCARD', prefix .. 'w:' .. lane), oldest, live and 1 or 0 }
    end
    local waiting = call('ZRANGE', prefix .. 'lanes', 0, -1, 'WITHSCORES')
    for place = 1, #waiting, 2 do add(waiting[place], pool.now - tonumber(waiting[place + 1])) end
    for _, node in ipairs(call('ZRANGEBYSCORE', prefix .. 'nodes', '(' .. pool.now, '+inf')) do add('+' .. node, -1) end
    finish_step(pool)
    return { pool.state[S_QUEUED], pool.state[S_RUNNING], call('ZCARD', prefix .. 'dead'), said }
end

-- Lets time pass, for whoever waits.
local function tick(keys, args)
    finish_step(begin(keys, args))
    return 0
end

