;;; Makes "guix substitute" run Kapla: for GUIX_EXTENSIONS_PATH in the environment of guix-daemon.
;;; KAPLA names the program if it is not on the daemon's path.
;;;
;;; If this died the daemon would do no build at all, not even one that needs no substitute. So where
;;; Kapla cannot be started, or ends before it has begun to read what the daemon wants, the stock
;;; command does the work. KAPLA_FALLBACK asks for that one at once.

(define-module (guix extensions substitute)
  #:export (guix-substitute))

(define (stock-substitute arguments)
  (apply (module-ref (resolve-interface '(guix scripts substitute)) 'guix-substitute)
         arguments))

(define (fall-back arguments)
  (format (current-error-port)
          "kapla cannot be started; the substitutes come by the stock program~%")
  (force-output (current-error-port))
  (stock-substitute arguments))

;; This process becomes Kapla, since it is the one that the daemon knows. Kapla is told where to
;; say that it has begun: KAPLA_STARTER is a descriptor.
(define (become-kapla arguments begun)
  (let ((kapla (or (getenv "KAPLA") "kapla")))
    (setenv "KAPLA_STARTER" (number->string (port->fdes begun)))
    (apply execlp kapla kapla arguments)))

;; Another one waits until Kapla has begun, with all its descriptors, and is there if it never does.
(define (stand-by arguments begun)
  (when (eof-object? (read-char begun))
    (fall-back arguments)
    (flush-all-ports))
  (primitive-_exit 0))

(define (guix-substitute . arguments)
  (if (getenv "KAPLA_FALLBACK")
      (stock-substitute arguments)
      (let* ((ends (pipe))
             (begun (cdr ends)))
        (when (zero? (primitive-fork))
          (close-port begun)
          (stand-by arguments (car ends)))
        (close-port (car ends))
        (catch 'system-error
          (lambda () (become-kapla (cons "substitute" arguments) begun))
          (lambda _
            ;; The one that stands by need not.
            (write-char #\. begun)
            (close-port begun)
            (fall-back arguments))))))
