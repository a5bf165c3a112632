;; A plugin of one small core module: quick to compile, and open to what Rust cannot
;; say. {pages}, {core} and {more} are filled in by whoever reads this. {core} defines
;; a function `handle` from the request's address to the response's; `$answer` makes a
;; response of a number, four bytes in the body, the least first. {more} stands at the
;; end of the component.
(component
  (import "lockgate:plugin/types@0.1.0" (instance $types
    (type $pairs' (list (tuple string string)))
    (export "pairs" (type $pairs (eq $pairs')))
    (type $origin' (enum "absent" "trusted" "foreign"))
    (export "origin" (type $origin (eq $origin')))
    (type $caller' (record
      (field "address" string) (field "origin" $origin) (field "service" bool)))
    (export "caller" (type $caller (eq $caller')))
    (type $request' (record
      (field "method" string)
      (field "path" string)
      (field "query" (option string))
      (field "headers" $pairs)
      (field "body" (list u8))
      (field "caller" $caller)
      (field "extensions" $pairs)))
    (export "request" (type $request (eq $request')))
    (type $response' (record
      (field "status" u16) (field "headers" $pairs) (field "body" (list u8))))
    (export "response" (type $response (eq $response')))))
  (alias export $types "request" (type $request))
  (alias export $types "response" (type $response))
  (core module $core
    (memory (export "memory") {pages})
    (global $top (mut i32) (i32.const 4096))
    (func (export "realloc")
      (param $old i32) (param $old_size i32) (param $align i32) (param $size i32)
      (result i32)
      (local $at i32) (local $lacking i32)
      (local.set $at
        (i32.and
          (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
          (i32.sub (i32.const 0) (local.get $align))))
      (global.set $top (i32.add (local.get $at) (local.get $size)))
      (local.set $lacking
        (i32.sub (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
      (if (i32.gt_s (local.get $lacking) (i32.const 0))
        (then
          (if (i32.lt_s
                (memory.grow
                  (i32.shr_u (i32.add (local.get $lacking) (i32.const 65535)) (i32.const 16)))
                (i32.const 0))
            (then unreachable))))
      (local.get $at))
    (func $answer (param $number i32) (result i32)
      (global.set $top (i32.const 4096))
      (i32.store16 (i32.const 16) (i32.const 200))
      (i32.store (i32.const 20) (i32.const 48))
      (i32.store (i32.const 24) (i32.const 0))
      (i32.store (i32.const 28) (i32.const 48))
      (i32.store (i32.const 32) (i32.const 4))
      (i32.store (i32.const 48) (local.get $number))
      (i32.const 16))
    {core})
  (core instance $instance (instantiate $core))
  (func $handle (param "request" $request) (result $response)
    (canon lift
      (core func $instance "handle")
      (memory $instance "memory")
      (realloc (func $instance "realloc"))))
  (instance $handler (export "handle" (func $handle)))
  (export "lockgate:plugin/handler@0.1.0" (instance $handler))
  {more})
