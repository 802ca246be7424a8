-- Lanes.

local function is_taken_down(pool, record)
    for _, digest in ipairs(record[R_DIGESTS]) do
        if call('HEXISTS', pool.prefix .. 'down', digest) == 1 then return true end
    end
    return false
end

-- Something falls due at this moment.
local function falls_due(pool, job, moment)
    call('ZADD', pool.prefix .. 'due', moment, job)
    pool.state[S_DUE] = min(pool.state[S_DUE], moment)
end

local function ring_lane(pool, lane)
    if lane == '-' or not is_live(pool, string.sub(lane, 2)) then
        ring(pool, 'work')
    else
        ring(pool, 'w:' .. string.sub(lane, 2))
    end
end

-- Puts a job that is on record into its lane; ends it if it must not run any more.
local function enqueue(pool, job, record)
    if is_taken_down(pool, record) then return finish_unsaid(pool, job, record, 'taken_down', 'taken_down') end
    local prefix, lane, tenant, now = pool.prefix, record[R_LANE], record[R_TENANT], pool.now
    arrive(pool, tenant)
    local queue = key_of_queue(pool, lane, tenant)
    call('ZADD', queue, record[R_TICKET], job)
    call('ZADD', prefix .. 'w:' .. lane, now, job)
    if call('ZADD', prefix .. 'l:' .. lane, 'NX', counter(pool, tenant), tenant) == 1 then
        for _, name in ipairs({ queue, prefix .. 'l:' .. lane, prefix .. 'w:' .. lane }) do call('PEXPIRE', name, TTL_MS) end
    end
    if call('ZADD', prefix .. 'lanes', 'NX', now, lane) == 1 then
        pool.state[S_BEHIND] = min(pool.state[S_BEHIND], now + pool.config[C_STEAL])
        if lane ~= '-' and not is_live(pool, string.sub(lane, 2)) then call('ZADD', prefix .. 'lost', now, lane) end
    end
    record[R_PHASE], record[R_SINCE], record[R_NODE], record[R_CANCELLED] = QUEUED, now, false, false
    save(pool, job, record)
    if record[R_DEADLINE] then
        falls_due(pool, job, record[R_DEADLINE])
    else
        call('ZREM', prefix .. 'due', job)
    end
    pool.state[S_QUEUED] = pool.state[S_QUEUED] + 1
    call('XADD', prefix .. 'backlog', '*', 'j', '')
    ring_lane(pool, lane)
end

-- Takes a waiting job out of its lane. Its phase is the caller's to set.
local function dequeue(pool, job, record)
    local prefix, lane, tenant = pool.prefix, record[R_LANE], record[R_TENANT]
    local queue = key_of_queue(pool, lane, tenant)
    call('ZREM', queue, job)
    if call('ZCARD', queue) == 0 then call('ZREM', prefix .. 'l:' .. lane, tenant) end
    call('ZREM', prefix .. 'w:' .. lane, job)
    local oldest = call('ZRANGE', prefix .. 'w:' .. lane, 0, 0, 'WITHSCORES')
    if oldest[2] then
        call('ZADD', prefix .. 'lanes', oldest[2], lane)
    else
        call('ZREM', prefix .. 'lanes', lane)
        call('ZREM', prefix .. 'lost', lane)
    end
    depart(pool, tenant)
    pool.state[S_QUEUED] = pool.state[S_QUEUED] - 1
    pool.taken = pool.taken + 1
end

local function new_backlog(pool)
    call('DEL', pool.prefix .. 'backlog')
    call('XGROUP', 'CREATE', pool.prefix .. 'backlog', 'nodes', 0, 'MKSTREAM', 'ENTRIESREAD', 0)
    for _ = 1, pool.state[S_QUEUED] do call('XADD', pool.prefix .. 'backlog', '*', 'j', '') end
end

-- Reads as many entries of the backlog as jobs wait no more, and drops what was read.
local function read_backlog(pool)
    local name = pool.prefix .. 'backlog'
    local read = redis.pcall('XREADGROUP', 'GROUP', 'nodes', 'queue', 'COUNT', pool.taken, 'NOACK', 'STREAMS', name, '>')
    if read and read.err then return new_backlog(pool) end
    local entries = read and read[1] and read[1][2] or {}
    local last = entries[#entries]
    if not last then return end
    -- Entries that were read are all that is dropped: another would leave the lag unknown.
    local millis, number = string.match(last[1], '^(%d+)-(%d+)$')
    call('XTRIM', name, 'MINID', millis .. '-' .. string.format('%.0f', number + 1))
end

-- Who runs what.

local function stop_running(pool, job, record)
    local prefix, tenant = pool.prefix, record[R_TENANT]
    if call('HINCRBY', prefix .. 'running', tenant, -1) <= 0 then call('HDEL', prefix .. 'running', tenant) end
    local held = prefix .. 'held:' .. record[R_NODE]
    if call('HINCRBY', held, tenant, -1) <= 0 then call('HDEL', held, tenant) end
    pool.state[S_RUNNING] = pool.state[S_RUNNING] - 1
end

local function bury(pool, job, record, reason)
    local prefix, state = pool.prefix, pool.state
    state[S_DEAD] = state[S_DEAD] + 1
    local body, resumed = call('GET', prefix .. 'b:' .. job), call('GET', prefix .. 'r:' .. job)
    call('SET', prefix .. 'd:' .. job, pack({ record, body, resumed, record[R_DELIVERIES], reason }), 'PX', TTL_MS)
    call('ZADD', prefix .. 'dead', state[S_DEAD], job)
    if call('ZCARD', prefix .. 'dead') > DEAD_LETTERS_KEPT then
        call('DEL', prefix .. 'd:' .. call('ZPOPMIN', prefix .. 'dead')[1])
    end
end

-- The lane of the next live node by name after one that has failed a job; nil if there is no other.
local function other_than(pool, failed)
    local first, after
    for _, node in ipairs(call('ZRANGEBYSCORE', pool.prefix .. 'nodes', '(' .. pool.now, '+inf')) do
        if node ~= failed then
            if not first or node < first then first = node end
            if node > failed and (not after or node < after) then after = node end
        end
    end
    local other = after or first
    return other and '+' .. other
end

-- Queues a job again whose attempt is over, or ends it if it was cancelled, is too late or was delivered too often. A reason
-- means that the attempt failed; without one it had not begun, and does not count.
local function end_attempt(pool, job, record, reason)
    local failed_by = record[R_NODE]
    stop_running(pool, job, record)
    if record[R_CANCELLED] then return finish_unsaid(pool, job, record, 'caller_left', 'shutting_down') end
    if record[R_DEADLINE] and record[R_DEADLINE] <= pool.now then
        return finish_unsaid(pool, job, record, 'deadline', 'deadline')
    end
    if is_taken_down(pool, record) then return finish_unsaid(pool, job, record, 'taken_down', 'taken_down') end
    -- Nobody waits for its answer any more, and another gateway can write it down.
    if record[R_HAS_ACCOUNT] and is_lost(pool, record[R_GATEWAY]) then
        return finish_unsaid(pool, job, record, 'caller_left', 'shutting_down')
    end
    if not reason then
        record[R_DELIVERIES] = record[R_DELIVERIES] - 1
    elseif record[R_DELIVERIES] >= pool.config[C_DELIVERIES] then
        bury(pool, job, record, reason)
        return finish_unsaid(pool, job, record, 'failed', 'dead_letter', reason)
    end
    -- No more the lane's whose node has just let go of it: another's, where that node has failed it.
    record[R_LANE] = reason and other_than(pool, failed_by) or '-'
    enqueue(pool, job, record)
    notify(pool, record[R_GATEWAY], { job, 0 })
end

-- What time does.

local function lose_lane(pool, node)
    pool.live[node] = false
    local oldest = call('ZSCORE', pool.prefix .. 'lanes', '+' .. node)
    if oldest then call('ZADD', pool.prefix .. 'lost', oldest, '+' .. node) end
    ring(pool, 'work')
end

local function sweep(pool)
    local prefix, now = pool.prefix, pool.now
    for _, node in ipairs(call('ZRANGEBYSCORE', prefix .. 'nodes', '-inf', now, 'LIMIT', 0, MOST_AT_ONCE)) do
        call('ZREM', prefix .. 'nodes', node)
        call('HDEL', prefix .. 'status', node)
        lose_lane(pool, node)
    end
    for _, job in ipairs(call('ZRANGEBYSCORE', prefix .. 'due', '-inf', now, 'LIMIT', 0, MOST_AT_ONCE)) do
        local record = record_of(pool, job)
        if not record or record[R_PHASE] == OVER then
            call('ZREM', prefix .. 'due', job)
        elseif record[R_PHASE] == QUEUED then
            dequeue(pool, job, record)
            finish_unsaid(pool, job, record, 'deadline', 'deadline')
        else
            end_attempt(pool, job, record, 'its node was lost: the lease expired')
        end
    end
    local next = math.huge
    for _, name in ipairs({ 'nodes', 'due' }) do
        local first = call('ZRANGE', prefix .. name, 0, 0, 'WITHSCORES')
        if first[2] then next = min(next, tonumber(first[2])) end
    end
    pool.state[S_DUE] = next
end

-- Has nodes that have nothing to do hear of lanes that have fallen behind since somebody looked last.
local function look_behind(pool)
    local prefix, state, steal = pool.prefix, pool.state, pool.config[C_STEAL]
    local latest = pool.now - steal
    if call('ZCOUNT', prefix .. 'lanes', '(' .. (state[S_LOOKED] - steal), latest) > 0 then ring(pool, 'work') end
    local next = call('ZRANGEBYSCORE', prefix .. 'lanes', '(' .. latest, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    state[S_LOOKED], state[S_BEHIND] = pool.now, next[2] and tonumber(next[2]) + steal or math.huge
end

-- Drops what is old.
local function tidy(pool)
    local prefix, now, remember = pool.prefix, pool.now, pool.config[C_REMEMBER]
    for _, job in ipairs(call('ZRANGEBYSCORE', prefix .. 'over', '-inf', now, 'LIMIT', 0, 2 * MOST_AT_ONCE)) do
        call('ZREM', prefix .. 'over', job)
        local record = record_of(pool, job)
        -- A dead letter that was replayed waits or runs again.
        if record and record[R_PHASE] == OVER then
            call('DEL', prefix .. 'j:' .. job)
            pool.records[job], pool.changed[job] = false, nil
        end
    end
    for _, box in ipairs(call('ZRANGEBYSCORE', prefix .. 'boxes', '-inf', '(' .. (now - remember), 'LIMIT', 0, MOST_AT_ONCE)) do
        call('DEL', prefix .. box)
        call('ZREM', prefix .. 'boxes', box)
    end
    call('ZREMRANGEBYSCORE', prefix .. 'gateways', '-inf', now)
    call('ZREMRANGEBYSCORE', prefix .. 'refused', '-inf', now - PATIENCE_MS)
    call('ZREMRANGEBYSCORE', prefix .. 'retired', '-inf', now - RETIRED_KEPT_MS)
end

local KEPT = { 'lanes', 'lost', 'vtc', 'waiting', 'queued', 'running', 'refused', 'due', 'over', 'nodes', 'status', 'retired',
    'gateways', 'boxes', 'orders', 'down', 'drains', 'about', 'dead', 'posts', 'owners', 'adopted', 'backlog' }

-- The numbers of a pool that is new. Rings begin where no ring of an earlier life has come, but for a clock that was set back.
local function new_state(wall, micros)
    local state = {}
    for place = 1, S_BORN do state[place] = 0 end
    state[S_BORN] = micros
    -- So that no reader takes what is new for what it has had already.
    state[S_NOTE] = wall * 100
    state[S_RING], state[S_TIDIED], state[S_CLAIMED] = wall * 100, -TIDY_EVERY_MS, -1
    return state
end

-- Begins a step: counts the time that has passed, and lets everything happen that fell due.
local function begin(keys, args)
    if not call then
        call, pack, read_packed = redis.call, cmsgpack.pack, cmsgpack.unpack
        floor, min, max = math.floor, math.min, math.max
    end
    local time = call('TIME')
    local wall = time[1] * 1000 + floor(time[2] / 1000)
    local pool = { key = keys[1], prefix = string.sub(keys[1], 1, -6), config = config_of(args[1]), rings = {}, records = {},
        changed = {}, live = {}, counters = {}, has_left = {}, taken = 0 }
    local packed = call('GET', keys[1])
    local state = packed and { struct.unpack(STATE, packed) } or new_state(wall, time[1] * 1000000 + time[2])
    pool.state = state
    if not packed then new_backlog(pool) end
    if packed then state[S_NOW] = state[S_NOW] + max(0, min(wall - state[S_WALL], MAX_STEP_MS)) end
    state[S_WALL], pool.now = wall, state[S_NOW]
    if pool.now >= state[S_DUE] then sweep(pool) end
    if pool.now - state[S_TIDIED] >= TIDY_EVERY_MS then
        state[S_TIDIED] = pool.now
        tidy(pool)
    end
    if pool.now >= state[S_BEHIND] then look_behind(pool) end
    return pool
end

-- Ends a step: writes what has changed and rings the bells.
local function finish_step(pool)
    local prefix, state = pool.prefix, pool.state
    for job in pairs(pool.changed) do
        call('SET', prefix .. 'j:' .. job, pack(pool.records[job]), 'PX', TTL_MS)
    end
    if pool.taken > 0 then read_backlog(pool) end
    for bell in pairs(pool.rings) do
        state[S_RING] = state[S_RING] + 1
        local name = prefix .. 'bell:' .. bell
        local id = string.format('%.0f-1', state[S_RING])
        -- A bell of an earlier life may have rung with a higher number.
        local rung = redis.pcall('XADD', name, 'MAXLEN', 1, id, 'r', '')
        if type(rung) == 'table' and rung.err then
            call('DEL', name)
            call('XADD', name, 'MAXLEN', 1, id, 'r', '')
        end
        call('PEXPIRE', name, TTL_MS)
    end
    -- A wall clock that was set is another reason to keep everything anew.
    local keeps = math.abs(state[S_WALL] - state[S_KEPT]) > KEEP_EVERY_MS
    if keeps then state[S_KEPT] = state[S_WALL] end
    call('SET', pool.key, struct.pack(STATE, unpack(state)), 'PX', TTL_MS)
    if keeps then
        for _, name in ipairs(KEPT) do call('PEXPIRE', prefix .. name, TTL_MS) end
    end
end

