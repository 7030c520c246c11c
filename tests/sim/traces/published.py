"""Small files in the form in which public traces are published."""

from __future__ import annotations

PUBLISHED = {
    "llm": (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00.009930+00:00,2162,5\n"
        "2024-05-10 00:00:00.017335+00:00,2399,6\n"
        "2024-05-10 00:00:02+00:00,76,15\n"
    ),
    "burstgpt": (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n"
        "45,ChatGPT,1087,230,1317,Conversation log\n"
        "118,GPT-4,417,0,417,API log\n"
    ),
    "mooncake": (
        '{"timestamp": 0, "input_length": 6755, "output_length": 500, "hash_ids": [0, 1, 2]}\n'
        '{"timestamp": 0, "input_length": 7319, "output_length": 490, "hash_ids": [0, 14]}\n'
        '{"timestamp": 3052, "input_length": 7234, "output_length": 794, "hash_ids": [0, 29, 30]}\n'
    ),
    "splitwise": (
        "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
        "0,2,0,1,1,4096,32\n"
        "1,2,0,3,1,2048,8\n"
        "2,2,0,4.5,1,2048,16\n"
    ),
    "vidur": (
        "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n4.314579,396,109\n5.8926549999999995,91,16\n"
    ),
    "llmservingsim": (
        "input_toks\toutput_toks\tarrival_time_ns\n10\t70\t46926808\n22\t104\t347938952\n16\t69\t479613521\n"
    ),
    "k6": (
        "metric_name,timestamp,metric_value,check,error,error_code,group,method,name,proto,status,url,extra_tags\n"
        "http_reqs,1595325560,1.000000,,,,,GET,http://a.io,HTTP/1.1,200,http://a.io,\n"
        "http_req_duration,1595325560,221.899000,,,,,GET,http://a.io,HTTP/1.1,200,http://a.io,\n"
        "vus,1595325561,1.000000,,,,,,,,,,\n"
        "http_reqs,1595325560,1.000000,,,,,GET,http://a.io,HTTP/1.1,200,http://a.io,\n"
        "http_reqs,1595325562,1.000000,,,,,GET,http://a.io,HTTP/1.1,200,http://a.io,\n"
    ),
}
"""The text of a file of each named kind; the first arrival in it is not always at 0."""

ARRIVALS_S = {
    "llm": [0, 0.007405, 1.990070],
    "burstgpt": [0, 40, 113],
    "mooncake": [0, 0, 3.052],
    "splitwise": [1, 3, 4.5],
    "vidur": [0, 4.314579, 5.892655],
    "llmservingsim": [0.046926808, 0.347938952, 0.479613521],
    "k6": [0, 0, 2],
}
"""When the queries of these files arrive, in seconds."""

SERVEGEN = "0,0.1,8.598383724990791,Weibull,0.3753486,0.3967678\n600,0,0,,0,0\n1200,0.15,4.06,Gamma,0.0604,103.65\n"
"""A client of ServeGen: 60 requests in the first window, none in the second, 90 in the third."""
