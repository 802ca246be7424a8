-- Submitting.

-- How many tenants have jobs that wait or were refused lately, but for one.
local function num_others(pool, tenant)
    local prefix = pool.prefix
    local refused = call('ZRANGEBYSCORE', prefix .. 'refused', '(' .. (pool.now - PATIENCE_MS - 1), '+inf')
    local others, num = 0, 0
    for _, other in ipairs(refused) do
        if other == tenant then
            pool.was_refused = true
        else
            num = num + 1
            if call('HEXISTS', prefix .. 'queued', other) == 0 then others = others + 1 end
        end
    end
    if num == 0 then return 0 end
    others = others + call('HLEN', prefix .. 'queued') - call('HEXISTS', prefix .. 'queued', tenant)
    return others
end

-- Which cap has no place for a job of the tenant: scope, limit and count. Nil where there is one. The rules are those of the
-- protocol's gate with an eighth kept.
local function refusal(pool, tenant)
    local config, used = pool.config, pool.state[S_QUEUED]
    local held = tonumber(call('HGET', pool.prefix .. 'queued', tenant) or 0)
    local limit = config[C_IN_FLIGHT]
    if limit >= 0 then
        local in_flight = held + tonumber(call('HGET', pool.prefix .. 'running', tenant) or 0)
        if in_flight >= limit then return { 'in_flight', limit, in_flight } end
    end
    local total, most = config[C_QUEUED], config[C_PER_TENANT]
    local reserve = total > 1 and max(1, floor(total / 8)) or 0
    local room = held + 1 <= 1 and total or max(0, total - reserve)
    local others = num_others(pool, tenant)
    local share = others == 0 and room or floor(room / (1 + others))
    share = max(min(share, most, room), min(1, most))
    local scope
    if held + 1 > share then
        scope = share >= room and 'pool' or 'tenant'
    elseif used + 1 > room then
        scope = 'pool'
    else
        if pool.was_refused then call('ZREM', pool.prefix .. 'refused', tenant) end
        return nil
    end
    if pool.was_refused or call('ZCARD', pool.prefix .. 'refused') < MOST_REFUSED then
        call('ZADD', pool.prefix .. 'refused', pool.now, tenant)
    end
    if scope == 'tenant' then return { scope, share, held } end
    return { scope, room, used }
end

local STATES = { [QUEUED] = 'queued', [RUNNING] = 'running', [OVER] = 'over' }

-- ARGV: job, tenant, lane, gateway, priority, number of prompt tokens, milliseconds that are left or -1, attempts before, the
-- body, the account or nothing, digests. Returns a word; what is full: also a scope, a limit, a count and the pace in microseconds per claim.
local function submit(keys, args)
    local pool = begin(keys, args)
    local job, tenant, left = args[2], args[3], tonumber(args[8])
    local prefix, known = pool.prefix, record_of(pool, job)
    local said
    if known then
        said = { STATES[known[R_PHASE]] }
    else
        local full = refusal(pool, tenant)
        if full then
            said = { 'full', full[1], full[2], full[3], floor(pool.state[S_PACE] * 1000) }
        else
            local digests = {}
            for place = 12, #args do digests[#digests + 1] = args[place] end
            local deadline = left >= 0 and pool.now + min(left, NEVER_MS)
            local record = { QUEUED, tenant, args[4], args[5], tonumber(args[6]), tonumber(args[7]), digests,
                pool.state[S_TICKET], pool.now, deadline, tonumber(args[9]), 0, false, 0, false, false, false, 0, args[11] ~= '', 0 }
            pool.state[S_TICKET] = pool.state[S_TICKET] + 1
            call('SET', prefix .. 'b:' .. job, args[10], 'PX', TTL_MS)
            hear_of(pool, args[5])
            if args[11] ~= '' then open_account(pool, job, args[5], args[11]) end
            enqueue(pool, job, record)
            said = { 'new' }
        end
    end
    finish_step(pool)
    return said
end

-- Claiming.

-- Lanes of others that are behind: the oldest job there has waited for long.
local function lanes_behind(pool, node)
    local latest = pool.now - pool.config[C_STEAL]
    local lanes = call('ZRANGEBYSCORE', pool.prefix .. 'lanes', '-inf', latest, 'LIMIT', 0, MOST_LANES)
    local far = {}
    for _, lane in ipairs(lanes) do
        if lane ~= '-' and lane ~= '+' .. node and is_live(pool, string.sub(lane, 2)) then far[#far + 1] = lane end
    end
    return far
end

-- The node's own lane and those that nobody minds.
local function lanes_near(pool, node)
    local near = { '+' .. node, '-' }
    for _, lane in ipairs(call('ZRANGE', pool.prefix .. 'lost', 0, MOST_LANES - 1)) do
        if lane ~= near[1] then near[#near + 1] = lane end
    end
    return near
end

-- Reads the counters of tenants, all at once, which are every second of these.
local function read_counters(pool, some)
    local unread = {}
    for place = 1, #some, 2 do
        if not pool.counters[some[place]] then unread[#unread + 1] = some[place] end
    end
    if #unread == 0 then return end
    for place, value in ipairs(call('ZMSCORE', pool.prefix .. 'vtc', unpack(unread))) do
        pool.counters[unread[place]] = tonumber(value or pool.state[S_FLOOR])
    end
end

-- The best of a lane: the oldest job of the tenant with the lowest counter among those that may be served, if that comes before
-- `best`. A lane's order is by counters as they were or lower, since counters only grow; what is found to have grown is noted.
local function lowest_of_lane(pool, lane, holds, best)
    local name, at, ties, stale = pool.prefix .. 'l:' .. lane, 0, 0, {}
    local done = false
    while not done do
        local some = call('ZRANGE', name, at, at + MOST_TIES - 1, 'WITHSCORES')
        read_counters(pool, some)
        for place = 1, #some, 2 do
            local tenant, known = some[place], tonumber(some[place + 1])
            if best and (known > best[1] or ties >= MOST_TIES) then
                done = true
                break
            end
            local value = counter(pool, tenant)
            if value > known then stale[#stale + 1] = tenant end
            if not (holds and holds[tenant]) and (not best or value <= best[1]) then
                local head = call('ZRANGE', key_of_queue(pool, lane, tenant), 0, 0, 'WITHSCORES')
                local ticket = tonumber(head[2])
                if head[1] and (not best or value < best[1] or ticket < best[2]) then best = { value, ticket, head[1] } end
                ties = ties + 1
            end
        end
        at = at + MOST_TIES
        done = done or #some < 2 * MOST_TIES
    end
    for _, tenant in ipairs(stale) do call('ZADD', name, 'XX', counter(pool, tenant), tenant) end
    return best
end

local function lowest(pool, lanes, holds)
    local best
    for _, lane in ipairs(lanes) do best = lowest_of_lane(pool, lane, holds, best) end
    return best and best[3]
end

local function held_by(pool, node)
    local holds, all = {}, call('HKEYS', pool.prefix .. 'held:' .. node)
    for _, tenant in ipairs(all) do holds[tenant] = true end
    return holds
end

-- The job that the node should take next, of anyone or of tenants of whom it holds none.
local function pick(pool, node, holds)
    return lowest(pool, lanes_near(pool, node), holds) or lowest(pool, lanes_behind(pool, node), holds)
end

local function note_pace(pool)
    local state = pool.state
    if state[S_CLAIMED] >= 0 then
        state[S_PACE] = state[S_PACE] + 0.1 * (min(pool.now - state[S_CLAIMED], 60000) - state[S_PACE])
    end
    state[S_CLAIMED] = pool.now
end

-- Hands a job over: its name, attempt, milliseconds that are left or -1, those that it waited, its body and what was handed in.
local function deliver(pool, job, node)
    local prefix, record, now = pool.prefix, record_of(pool, job), pool.now
    dequeue(pool, job, record)
    record[R_ATTEMPT], record[R_DELIVERIES] = record[R_ATTEMPT] + 1, record[R_DELIVERIES] + 1
    local tenant, waited = record[R_TENANT], now - record[R_SINCE]
    -- Once for each job: a tenant does not pay for a node that was lost.
    if not record[R_CHARGED] then
        record[R_CHARGED] = true
        charge(pool, tenant, price(record, record[R_PROMPT]))
    end
    record[R_PHASE], record[R_NODE], record[R_CANCELLED] = RUNNING, node, false
    save(pool, job, record)
    falls_due(pool, job, now + pool.config[C_LEASE])
    call('HINCRBY', prefix .. 'running', tenant, 1)
    if call('HINCRBY', prefix .. 'held:' .. node, tenant, 1) == 1 then call('PEXPIRE', prefix .. 'held:' .. node, TTL_MS) end
    pool.state[S_RUNNING] = pool.state[S_RUNNING] + 1
    note_pace(pool)
    local left = record[R_DEADLINE] and max(0, record[R_DEADLINE] - now) or -1
    local resumed = record[R_RESUMED] > 0 and call('GET', prefix .. 'r:' .. job) or ''
    return { job, record[R_ATTEMPT], left, waited, call('GET', prefix .. 'b:' .. job), resumed }
end

-- ARGV: node, most jobs, most of tenants of whom it holds none. Returns what is handed over.
local function claim(keys, args)
    local pool = begin(keys, args)
    local node, jobs, newcomers = args[2], tonumber(args[3]), tonumber(args[4])
    local deliveries = {}
    while jobs > 0 do
        local job = pick(pool, node)
        if not job then break end
        deliveries[#deliveries + 1] = deliver(pool, job, node)
        jobs = jobs - 1
    end
    if newcomers > 0 then
        local holds = held_by(pool, node)
        while newcomers > 0 do
            local job = pick(pool, node, holds)
            if not job then break end
            deliveries[#deliveries + 1] = deliver(pool, job, node)
            holds[record_of(pool, job)[R_TENANT]] = true
            newcomers = newcomers - 1
        end
    end
    finish_step(pool)
    return deliveries
end

-- Milliseconds until time alone may change what somebody who waits would see, or -1.
local function next_change(pool, node)
    local prefix, now, change = pool.prefix, pool.now, math.huge
    local function at(moment)
        if moment > now then change = min(change, moment - now) end
    end
    local due = call('ZRANGE', prefix .. 'due', 0, 0, 'WITHSCORES')
    if due[2] then at(tonumber(due[2])) end
    if node and call('ZCARD', prefix .. 'lanes') > 0 then
        local from = '(' .. (now - pool.config[C_STEAL])
        local next = call('ZRANGEBYSCORE', prefix .. 'lanes', from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
        if next[2] then at(tonumber(next[2]) + pool.config[C_STEAL]) end
        local lapse = call('ZRANGE', prefix .. 'nodes', 0, 0, 'WITHSCORES')
        if lapse[2] then at(tonumber(lapse[2])) end
    end
    return change < math.huge and change or -1
end

-- What every look answers: the number of the last ring, in how many milliseconds to look again or -1, and what was found.
local function looked(pool, change, found)
    finish_step(pool)
    return { string.format('%.0f', pool.state[S_RING]), change, found }
end

-- ARGV: as for a claim. Finds 1 where it would find work.
local function look_work(keys, args)
    local pool = begin(keys, args)
    local node, jobs, newcomers = args[2], tonumber(args[3]), tonumber(args[4])
    local found = jobs > 0 and pick(pool, node) or newcomers > 0 and pick(pool, node, held_by(pool, node))
    return looked(pool, next_change(pool, node), found and { 1 } or {})
end

-- ARGV: node, most jobs. Returns the bodies of those whose turn is next, in lanes that are not of others.
local function peek(keys, args)
    local pool = begin(keys, args)
    local node, most = args[2], tonumber(args[3])
    local queues, counters = {}, {}
    for _, lane in ipairs(lanes_near(pool, node)) do
        for _, tenant in ipairs(call('ZRANGE', pool.prefix .. 'l:' .. lane, 0, MOST_TIES - 1)) do
            counters[tenant] = counter(pool, tenant)
            local jobs = call('ZRANGE', key_of_queue(pool, lane, tenant), 0, most - 1, 'WITHSCORES')
            queues[#queues + 1] = { tenant, jobs, 1 }
        end
    end
    local bodies = {}
    for _ = 1, most do
        local best, value, ticket
        for _, queue in ipairs(queues) do
            local head = tonumber(queue[2][queue[3] + 1])
            local its = counters[queue[1]]
            if head and (not best or its < value or its == value and head < ticket) then best, value, ticket = queue, its, head end
        end
        if not best then break end
        local job = best[2][best[3]]
        best[3] = best[3] + 2
        local record = record_of(pool, job)
        bodies[#bodies + 1] = call('GET', pool.prefix .. 'b:' .. job)
        if not record[R_CHARGED] then
            counters[best[1]] = counters[best[1]] + price(record, record[R_PROMPT])
        end
    end
    finish_step(pool)
    return bodies
end

